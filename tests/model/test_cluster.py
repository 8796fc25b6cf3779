import pytest

from ccapi.model.cluster import (
    Cluster,
    Clusters,
    count_nodes,
    is_node_list,
    split_nodes,
)

FRITZ = Cluster("fritz", {"f0101": "main", "f0102": "main", "f2101": "spr"})
WOODY = Cluster("woody", {})
SITE = Clusters((FRITZ, WOODY))


@pytest.mark.parametrize(
    ("node_list", "parts", "count"),
    [
        ("f1", ["f1"], 1),
        ("f[0101-0188,0201]", ["f[0101-0188,0201]"], 89),
        (" f[1-3] ,\n g[1-2]r[01-10]-ib ", ["f[1-3]", "g[1-2]r[01-10]-ib"], 23),
        ("f[1-1000000000000]", ["f[1-1000000000000]"], 10**12),
        ("f[5-1]", ["f[5-1]"], 0),
    ],
)
def test_node_list_is_split_and_counted_unexpanded(
    node_list: str, parts: list[str], count: int
) -> None:
    assert is_node_list(node_list)
    assert split_nodes(node_list) == parts
    assert count_nodes(node_list) == count


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "@all", "f1,", "f1,,f2", "f1 f2", "f[1-", "f[]", "f[a-b]", "f[-1]", "f[1[2]]"),
        *("f*", "f?", "f%s", "f[1-9]!f2", "f[1-9]&f2", "f[1-9]^f2", "f[1-9/2]", "f[٣]", "fä"),
        "f[" + "9" * 19 + "]",
    ],
)
def test_node_list_in_another_notation_is_refused(text: str) -> None:
    assert not is_node_list(text)


def test_cluster_from_the_hosts_of_its_sub_clusters() -> None:
    hosts = {"main": ["f0101", "f0102"], "spr": ["f2101"]}
    assert Cluster.of("fritz", hosts) == FRITZ
    assert FRITZ.sub_clusters == hosts


def test_host_in_two_sub_clusters_is_refused() -> None:
    with pytest.raises(ValueError, match="f2 is in both main and spr"):
        Cluster.of("fritz", {"main": ["f1", "f2"], "spr": ["f2"]})


def test_host_twice_in_one_sub_cluster_is_accepted() -> None:
    assert Cluster.of("fritz", {"main": ["f1", "f1"]}).sub_cluster_of == {"f1": "main"}


def test_every_valid_cluster_is_known_without_a_description() -> None:
    assert not Clusters()
    assert Clusters().names == ()
    assert Clusters().knows("anything")
    assert not Clusters().knows("../etc")


def test_no_host_is_unknown_without_a_description() -> None:
    assert Clusters().sub_cluster("fritz", ["f0101"]) == ""
    assert Clusters().unknown_hosts("fritz", ["f0101"]) == []


def test_only_described_clusters_are_known_if_there_are_any() -> None:
    assert SITE
    assert SITE.names == ("fritz", "woody")
    assert SITE.knows("woody")
    assert not SITE.knows("frizt")


def test_sub_cluster_is_that_of_the_first_known_host() -> None:
    assert SITE.sub_cluster("fritz", ["f9999", "f2101", "f0101"]) == "spr"


@pytest.mark.parametrize("hosts", [[], ["f9999"]])
def test_sub_cluster_of_unknown_hosts_is_empty(hosts: list[str]) -> None:
    assert SITE.sub_cluster("fritz", hosts) == ""


def test_hosts_outside_the_node_lists_are_unknown() -> None:
    assert SITE.unknown_hosts("fritz", ["f0101", "f9999", "f8888"]) == ["f9999", "f8888"]


def test_cluster_without_node_lists_has_no_unknown_hosts() -> None:
    assert SITE.unknown_hosts("woody", ["w1"]) == []
    assert SITE.unknown_hosts("alex", ["a1"]) == []
