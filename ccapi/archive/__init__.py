"""The job archive of ClusterCockpit, version 1: one directory per finished job.

ROOT/version.txt                                    the number 1
ROOT/<cluster>/<jobId div 1000>/<jobId mod 1000>/<startTime>/meta.json

jobId 1034871 that started at 1768978339 on "large" is in
large/1034/871/1768978339/meta.json; the third level always has three digits.
"""
