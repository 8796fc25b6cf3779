package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ClusterCockpit/cc-lib/v2/schema"
)

type counts struct {
	Clusters  int `json:"clusters"`
	Jobs      int `json:"jobs"`
	Validated int `json:"validated"`
}

// readArchive decodes each cluster.json and meta.json into the family's structs, and checks what
// cc-backend checks when it builds its database from an archive. The JSON schema is checked for the
// jobs that have the five metrics which it requires.
func readArchive(root string) error {
	var found counts
	clusters, err := filepath.Glob(filepath.Join(root, "*", "cluster.json"))
	if err != nil {
		return err
	}
	for _, path := range clusters {
		subClusters, err := readCluster(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		found.Clusters++
		jobs, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*", "*", "*", "meta.json"))
		if err != nil {
			return err
		}
		for _, path := range jobs {
			validated, err := readJob(path, subClusters)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			found.Jobs++
			if validated {
				found.Validated++
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func readCluster(path string) (map[string]bool, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := schema.Validate(schema.ClusterCfg, bytes.NewReader(content)); err != nil {
		return nil, err
	}
	var cluster schema.Cluster
	if err := json.Unmarshal(content, &cluster); err != nil {
		return nil, err
	}
	if cluster.Name != filepath.Base(filepath.Dir(path)) || len(cluster.MetricConfig) == 0 {
		return nil, fmt.Errorf("has the name %q and %d metrics", cluster.Name, len(cluster.MetricConfig))
	}
	names := map[string]bool{}
	for _, subCluster := range cluster.SubClusters {
		names[subCluster.Name] = true
	}
	return names, nil
}

func readJob(path string, subClusters map[string]bool) (bool, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	var job schema.Job
	if err := json.Unmarshal(content, &job); err != nil {
		return false, err
	}
	switch {
	case !job.State.Valid():
		return false, fmt.Errorf("has the state %q", job.State)
	case !subClusters[job.SubCluster]:
		return false, fmt.Errorf("has the sub-cluster %q", job.SubCluster)
	case len(job.Resources) == 0 || len(job.Resources) != int(job.NumNodes):
		return false, fmt.Errorf("has %d resources and %d nodes", len(job.Resources), job.NumNodes)
	case job.User == "" || job.NumAcc < 0 || job.NumHWThreads < 0:
		return false, fmt.Errorf("has a user or a number that cc-backend refuses")
	}
	// The schema knows few units, and the metric of another name has no rules.
	if len(job.Statistics) != len(metrics) {
		return false, nil
	}
	return true, schema.Validate(schema.Meta, bytes.NewReader(content))
}
