// A client in Go: it starts jobs as the family's own struct marshals them, and reads lists of jobs
// back into that struct.
//
//	clients starts N       prints N starts, one for each line, of every kind of job
//	clients check FILE     decodes a list of jobs from standard input, and compares its jobs with
//	                       the starts in FILE; prints the first difference and fails
//	clients archive DIR    decodes each file of a job archive, version 3, and prints how many
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"

	"github.com/ClusterCockpit/cc-lib/v2/schema"
)

// What GET /api/jobs/ answers, as cc-slurm-adapter declares it.
type list struct {
	Jobs  []*schema.Job `json:"jobs"`
	Items int           `json:"items"`
	Page  int           `json:"page"`
}

// The same with all that ccapi adds, so that a strict decoder knows each field.
type strictList struct {
	Jobs []struct {
		schema.Job
		Exclusive int `json:"exclusive"`
	} `json:"jobs"`
	Items      int    `json:"items"`
	Page       int    `json:"page"`
	NextCursor string `json:"nextCursor"`
}

type rawList struct {
	Jobs []json.RawMessage `json:"jobs"`
}

type key struct {
	cluster      string
	jobID, start int64
}

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "starts":
		err = printStarts(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "check":
		err = check(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "archive":
		err = readArchive(os.Args[2])
	default:
		err = fmt.Errorf("usage: clients starts N | clients check FILE | clients archive DIR")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func printStarts(number string) error {
	count, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(os.Stdout)
	for i := range count {
		if err := encoder.Encode(newJob(i)); err != nil {
			return err
		}
	}
	return nil
}

// check decodes a list as the family's clients do, then strictly, then by the library's JSON schema.
func check(path string) error {
	answer, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var jobs list
	if err := json.Unmarshal(answer, &jobs); err != nil {
		return fmt.Errorf("decoding the list: %w", err)
	}
	if jobs.Items != len(jobs.Jobs) {
		return fmt.Errorf("%d jobs, but items is %d", len(jobs.Jobs), jobs.Items)
	}
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&strictList{}); err != nil {
		return fmt.Errorf("decoding the list strictly: %w", err)
	}
	starts, err := readStarts(path)
	if err != nil {
		return err
	}
	for _, job := range jobs.Jobs {
		if err := compare(starts[keyOf(job)], job); err != nil {
			return fmt.Errorf("job %d of %s: %w", job.JobID, job.Cluster, err)
		}
	}
	validated, err := validate(answer, jobs.Jobs)
	if err != nil {
		return err
	}
	fmt.Printf("%d jobs, %d of them validated\n", len(jobs.Jobs), validated)
	return nil
}

func keyOf(job *schema.Job) key {
	return key{job.Cluster, job.JobID, job.StartTime}
}

func readStarts(path string) (map[key]*schema.Job, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	starts := map[key]*schema.Job{}
	decoder := json.NewDecoder(bufio.NewReader(file))
	for {
		var job schema.Job
		if err := decoder.Decode(&job); err == io.EOF {
			return starts, nil
		} else if err != nil {
			return nil, err
		}
		starts[keyOf(&job)] = &job
	}
}

// compare reports the first field in which a listed job differs from its start. What the registry
// adds or does not keep is checked first and left out then.
func compare(sent, listed *schema.Job) error {
	switch {
	case sent == nil:
		return fmt.Errorf("was never started")
	case listed.ID == nil || *listed.ID < 1:
		return fmt.Errorf("has no id")
	case listed.Duration < 1:
		return fmt.Errorf("has the duration %d", listed.Duration)
	case !listed.State.Valid() && listed.State != "stopped":
		return fmt.Errorf("has the unknown state %s", listed.State)
	}
	expected, actual := *sent, *listed
	if expected.NumNodes == 0 {
		expected.NumNodes = int32(len(expected.Resources))
	}
	if actual.MetaData == nil { // a list without metadata
		expected.MetaData = nil
	}
	for _, job := range []*schema.Job{&expected, &actual} {
		job.ID, job.State, job.Duration, job.MonitoringStatus = nil, "", 0, 0
		job.ConcurrentJobs = schema.JobLinkResultList{}
		job.Tags = plainTags(job.Tags)
	}
	return firstDifference(reflect.ValueOf(expected), reflect.ValueOf(actual))
}

// plainTags returns the tags in order, without ids and scopes.
func plainTags(tags []*schema.Tag) []*schema.Tag {
	plain := []*schema.Tag{}
	for _, tag := range tags {
		plain = append(plain, &schema.Tag{Type: tag.Type, Name: tag.Name})
	}
	slices.SortFunc(plain, func(a, b *schema.Tag) int {
		return bytes.Compare([]byte(a.Type+"\x00"+a.Name), []byte(b.Type+"\x00"+b.Name))
	})
	return plain
}

func firstDifference(expected, actual reflect.Value) error {
	for i := range expected.NumField() {
		e, a := expected.Field(i), actual.Field(i)
		isEmpty := (e.Kind() == reflect.Map || e.Kind() == reflect.Slice) && e.Len() == 0 && a.Len() == 0
		if !isEmpty && !reflect.DeepEqual(e.Interface(), a.Interface()) {
			sent, _ := json.Marshal(e.Interface())
			listed, _ := json.Marshal(a.Interface())
			return fmt.Errorf("%s was %s and is %s", expected.Type().Field(i).Name, sent, listed)
		}
	}
	return nil
}

// validate checks by the library's JSON schema the jobs which it can describe: it requires five
// metrics, and does not know the state "stopped".
func validate(answer []byte, jobs []*schema.Job) (int, error) {
	var raw rawList
	if err := json.Unmarshal(answer, &raw); err != nil {
		return 0, err
	}
	validated := 0
	for i, job := range jobs {
		if len(job.Statistics) < len(metrics) || job.State == "stopped" {
			continue
		}
		if err := schema.Validate(schema.Meta, bytes.NewReader(raw.Jobs[i])); err != nil {
			return 0, fmt.Errorf("job %d: %w", job.JobID, err)
		}
		validated++
	}
	return validated, nil
}
