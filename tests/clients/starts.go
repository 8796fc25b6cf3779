package main

import (
	"fmt"
	"math"

	"github.com/ClusterCockpit/cc-lib/v2/schema"
)

const (
	firstStart = 1_768_978_339
	firstJobID = 1_034_871
	// The first integer that a double cannot represent.
	beyondDouble = 1<<53 + 1
)

// The metrics that the library's JSON schema requires, with a unit of each kind.
var metrics = map[string]schema.Unit{
	"cpu_user":  {},
	"cpu_load":  {Base: ""},
	"mem_used":  {Base: "B", Prefix: "G"},
	"flops_any": {Base: "F/s", Prefix: "T"},
	"mem_bw":    {Base: "B/s", Prefix: "G"},
}

var users = []string{"abcd100h", "größe", "用户", "o'neill \"x\" <&>", "e\u0301\u2028"}

// newJob returns the job with a number. Each of its fields takes all kinds of values, with periods
// that are coprime, so that they meet in all combinations.
func newJob(i int) *schema.Job {
	job := &schema.Job{
		Cluster:          []string{"fritz", "alex", "a.b_c-d"}[i%3],
		SubCluster:       []string{"main", ""}[i%2],
		Partition:        []string{"", "multinode", "größe", "a b"}[i%4],
		Project:          []string{"abcd200", "", "プロジェクト"}[i/3%3],
		User:             users[i%5],
		Shared:           []string{"none", "single_user", "multi_user"}[i/2%3],
		State:            []schema.JobState{"", "running"}[i/5%2],
		Resources:        newResources(i),
		MonitoringStatus: schema.MonitoringStatusRunningOrArchiving,
		JobID:            newJobID(i),
		StartTime:        firstStart + int64(i),
	}
	if i%7 < 4 {
		job.NumNodes = int32(len(job.Resources))
		job.MetaData = map[string]string{
			"jobName":   fmt.Sprintf("rotor \u2028 größe \U0001f680 <%d>", i),
			"jobScript": "#!/bin/bash\n\techo \"$HOME\" \\ \u0001\n",
			"":          "",
		}
	}
	if i%11 < 5 {
		job.ArrayJobID = max(job.JobID-int64(i%11), 1)
		job.SMT = int32(i%2 + 1)
		job.NumHWThreads = math.MaxInt32
		job.Walltime = 86400
		job.SubmitTime = job.StartTime - 60
		job.RequestedMemory = math.MaxInt64
	}
	job.Tags = newTags(i)
	job.Statistics = newStatistics(i)
	switch i % 13 {
	case 0:
		job.Footprint = map[string]float64{}
		job.EnergyFootprint = map[string]float64{}
	case 1, 2, 3, 4:
		job.Energy = 12.345678901234567
		job.EnergyFootprint = map[string]float64{"cpu": 10.1, "größe": 0}
		job.Footprint = map[string]float64{"cpu_load_avg": 0.1, "flops": -1.5e-300, "": math.MaxFloat64}
	}
	return job
}

func newJobID(i int) int64 {
	switch {
	case i == 0:
		return math.MaxInt64
	case i%7 == 0:
		return beyondDouble + int64(i)
	default:
		return firstJobID + int64(i)
	}
}

// newResources returns up to eight nodes: whole ones, parts of them, and parts with GPUs.
func newResources(i int) []*schema.Resource {
	resources := []*schema.Resource{}
	for node := range i%8 + 1 {
		resource := &schema.Resource{Hostname: fmt.Sprintf("f%04d.example-1_x", node)}
		switch i / 8 % 4 {
		case 1:
			resource.HWThreads = []int{0, 1, 2, math.MaxInt32}
		case 2:
			resource.HWThreads = []int{7}
			resource.Accelerators = []string{"00000000:01:00.0", "00000000:41:00.0"}
		case 3:
			resource.Configuration = "größe=1"
		}
		resources = append(resources, resource)
	}
	if i/8%4 == 2 {
		return resources[:1]
	}
	return resources
}

func newTags(i int) []*schema.Tag {
	tags := []*schema.Tag{
		{Type: "Debug", Name: "Testjob", Scope: "global"},
		{Type: "größe", Name: "名前 <&>", Scope: "private"},
		{Type: "a", Name: fmt.Sprintf("b%d", i), Scope: "abcd100h"},
	}
	return tags[:i%4]
}

func newStatistics(i int) map[string]schema.JobStatistics {
	statistics := map[string]schema.JobStatistics{}
	switch i % 5 {
	case 1, 2:
		for name, unit := range metrics {
			statistics[name] = schema.JobStatistics{Unit: unit, Avg: 0.1 + float64(i), Min: 0, Max: 1e300}
		}
	case 3:
		statistics["größe"] = schema.JobStatistics{Unit: schema.Unit{Base: "furlongs a fortnight"}, Avg: 5e-324}
		statistics["nv_power"] = schema.JobStatistics{Unit: schema.Unit{Base: "W", Prefix: "K"}}
	case 4:
		return nil
	}
	return statistics
}
