"""The job archive of ClusterCockpit, version 3 or 1: one directory per finished job.

ROOT/version.txt                                    the number 3, or 1
ROOT/<cluster>/cluster.json                         version 3 only
ROOT/<cluster>/<year>-<month>.sqlite                a pack of the jobs of a month
ROOT/<cluster>/<jobId div 1000>/<jobId mod 1000>/<startTime>/meta.json

Job 1034871 of the cluster "large" with the start time 1768978339 is in
large/1034/871/1768978339/meta.json. The third level always has three digits.
"""
