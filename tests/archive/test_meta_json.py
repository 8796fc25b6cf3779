import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccapi.archive import meta_json
from ccapi.errors import ArchiveError
from ccapi.model.job import FINAL_STATES, Job
from ccapi.model.rules import MAX_EPOCH_SECOND
from tests.archive.fixtures import START, make_job

PLAIN = (
    '{"jobId":1034871,"user":"abcd100h","cluster":"large","numNodes":1,"startTime":1768978339,'
    '"jobState":"completed","project":"abcd200","subCluster":"main","exclusive":1,'
    '"shared":"none","duration":3600,"monitoringStatus":3,"resources":[{"hostname":"f0101"}],"tags":[],'
    '"statistics":{}}'
)
FULL = (
    '{"jobId":1034871,"user":"abcd100h","cluster":"large","numNodes":2,"startTime":1768978339,'
    '"jobState":"out_of_memory","project":"abcd200","subCluster":"main","exclusive":2,'
    '"shared":"single_user","duration":1,"monitoringStatus":3,"partition":"gpu","arrayJobId":1034800,'
    '"numHwthreads":144,"numAcc":4,"smt":2,"walltime":86400,'
    '"submitTime":1768978000,"requestedMemory":128000,"energy":7.5,'
    '"resources":[{"hostname":"f0101","hwthreads":[0,1],"accelerators":["00000000:07:00.0"],'
    '"configuration":"ä"},{"hostname":"f0102"}],'
    '"tags":[{"type":"Debug","name":"Testjob"},{"type":"Performance","name":"slow"}],'
    '"statistics":{"mem_bw":{"unit":{"prefix":"G","base":"B/s"},"avg":1.5,"min":0,"max":2e+300},'
    '"power":{"unit":{"base":"W"},"avg":1,"min":1,"max":1}},'
    '"footprint":{"mem_bw_avg":1.5},"energyFootprint":{"core_power":-1,"dram":2},'
    '"metaData":{"jobName":"a \\"name\\"","jobScript":"#!/bin/sh\\n"}}'
)
FULL_JOB = make_job(
    num_nodes=2,
    exclusive=2,
    stop_time=START,
    job_state="out_of_memory",
    partition="gpu",
    array_job_id=1034800,
    num_hwthreads=144,
    num_acc=4,
    smt=2,
    walltime=86400,
    submit_time=1768978000,
    requested_memory=128000,
    energy=7.5,
    resources='[{"hostname":"f0101","hwthreads":[0,1],"accelerators":["00000000:07:00.0"],'
    '"configuration":"ä"},{"hostname":"f0102"}]',
    tags='[{"id":9,"type":"Performance","name":"slow"},{"id":1,"type":"Debug","name":"Testjob"}]',
    meta_data='{"jobName":"a \\"name\\"","jobScript":"#!/bin/sh\\n"}',
    statistics='{"mem_bw":{"unit":"GB/s","avg":1.5,"min":0,"max":2e+300},'
    '"power":{"unit":"W","avg":1,"min":1,"max":1}}',
    footprint='{"mem_bw_avg":1.5}',
    energy_footprint='{"core_power":-1,"dram":2}',
)


@pytest.mark.parametrize(
    ("archived", "text"), [(make_job(), PLAIN), (FULL_JOB, FULL)], ids=["plain", "full"]
)
def test_content_of_meta_json(archived: Job, text: str) -> None:
    assert json.loads(meta_json.encode(archived)) == json.loads(text)


@pytest.mark.parametrize("archived", [make_job(), FULL_JOB], ids=["plain", "full"])
def test_database_id_is_not_written(archived: Job) -> None:
    assert "id" not in json.loads(meta_json.encode(archived))
    assert meta_json.encode(replace(archived, id=8)) == meta_json.encode(archived)


@pytest.mark.parametrize("status", [1, 2, 3])
def test_monitoring_status_is_always_archived(status: int) -> None:
    assert meta_json.encode(make_job(monitoring_status=status)) == meta_json.encode(make_job())


def test_tags_are_sorted() -> None:
    first = '[{"id":1,"type":"a","name":"x"},{"id":2,"type":"b","name":"y"}]'
    second = '[{"id":5,"type":"b","name":"y"},{"id":6,"type":"a","name":"x"}]'
    assert meta_json.encode(make_job(tags=first)) == meta_json.encode(make_job(tags=second))


def test_running_job_is_refused() -> None:
    with pytest.raises(ValueError, match=r"only finished|not stopped"):
        meta_json.encode(make_job(job_state="running", stop_time=None))


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("GB/s", {"prefix": "G", "base": "B/s"}),
        ("W", {"base": "W"}),
        *((f"{prefix}F/s", {"prefix": prefix, "base": "F/s"}) for prefix in "KMGTPE"),
        *(
            (base, {"base": base})
            for base in ("B", "F", "B/s", "F/s", "CPI", "IPC", "Hz", "W", "°C", "")
        ),
        ("MHz", {"prefix": "M", "base": "Hz"}),
        ("KCPI", {"prefix": "K", "base": "CPI"}),
        ("G", {"prefix": "G", "base": ""}),
        ("packets/s", {"base": "packets/s"}),
        ("Gpackets/s", {"base": "Gpackets/s"}),
        ("gB/s", {"base": "gB/s"}),
        ("kW", {"base": "kW"}),
        ("%", {"base": "%"}),
        ("GGB/s", {"base": "GGB/s"}),
        ("GB/s ", {"base": "GB/s "}),
    ],
)
def test_unit_is_split_into_prefix_and_base(unit: str, expected: dict[str, str]) -> None:
    statistics = {"x": {"unit": unit, "avg": 1, "min": 1, "max": 1}}
    written = json.loads(meta_json.encode(make_job(statistics=json.dumps(statistics))))
    assert written["statistics"]["x"]["unit"] == expected
    read = meta_json.decode(json.dumps(written).encode())
    assert json.loads(read.statistics or "") == statistics


def text(value: Any) -> str:
    """Return JSON as the database stores it."""
    return orjson.dumps(value).decode()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
COUNTS = st.none() | st.integers(1, 2**63 - 1)
NUMBERS = st.integers(0, 2**63 - 1) | st.floats(0, allow_infinity=False)
SIGNED = st.floats(allow_nan=False, allow_infinity=False)
FOOTPRINTS = st.none() | st.dictionaries(
    TEXTS, SIGNED | st.integers(-(2**63) + 1, 2**63 - 1), min_size=1
).map(text)
UNITS = st.sampled_from(["", "W", "GB/s", "°C", "MHz", "P", "packets/s"]) | TEXTS
TAG = st.fixed_dictionaries({"id": st.integers(1, 99), "type": NAMES, "name": NAMES})
JOBS = st.builds(
    make_job,
    job_id=st.integers(1, 2**63 - 1),
    user_name=NAMES,
    project=TEXTS,
    sub_cluster=st.sampled_from(["", "main"]),
    partition=st.none() | NAMES,
    array_job_id=COUNTS,
    num_nodes=st.integers(1, 5),
    num_hwthreads=COUNTS,
    num_acc=COUNTS,
    smt=COUNTS,
    walltime=COUNTS,
    submit_time=st.none() | st.integers(1, MAX_EPOCH_SECOND),
    requested_memory=COUNTS,
    energy=st.none() | SIGNED.filter(bool),
    footprint=FOOTPRINTS,
    energy_footprint=FOOTPRINTS,
    exclusive=st.integers(0, 2),
    start_time=st.integers(1, START),
    stop_time=st.integers(START, MAX_EPOCH_SECOND),
    job_state=st.sampled_from([str(state) for state in FINAL_STATES]),
    resources=st.lists(
        st.fixed_dictionaries(
            {"hostname": NAMES},
            optional={"hwthreads": st.lists(st.integers(0, 300)), "configuration": TEXTS},
        ),
        min_size=1,
        max_size=3,
    ).map(text),
    tags=st.lists(TAG, max_size=3).map(text),
    meta_data=st.none() | st.dictionaries(TEXTS, TEXTS, min_size=1).map(text),
    statistics=st.none()
    | st.dictionaries(
        TEXTS,
        st.fixed_dictionaries({"unit": UNITS, "avg": NUMBERS, "min": NUMBERS, "max": NUMBERS}),
        min_size=1,
        max_size=3,
    ).map(text),
)


@given(JOBS)
def test_encode_after_decode_returns_the_same_bytes(archived: Job) -> None:
    written = meta_json.encode(archived)
    assert meta_json.encode(meta_json.decode(written)) == written
    assert written == meta_json.encode(archived)


JSON_TEXTS = ("resources", "meta_data", "statistics", "footprint", "energy_footprint")


def without_texts(job: Job) -> Job:
    empty: dict[str, Any] = dict.fromkeys((*JSON_TEXTS, "tags"), "")
    return replace(job, **empty)


def without_ids(tags: str) -> list[tuple[str, str]]:
    return sorted((tag["type"], tag["name"]) for tag in json.loads(tags))


@given(JOBS)
def test_decode_after_encode_returns_the_same_job(archived: Job) -> None:
    read = meta_json.decode(meta_json.encode(archived))
    for field in JSON_TEXTS:
        text = getattr(archived, field)
        assert (text and json.loads(text)) == (
            getattr(read, field) and json.loads(getattr(read, field))
        )
    assert without_ids(read.tags) == without_ids(archived.tags)
    stop_time = max(archived.stop_time or 0, archived.start_time + 1)
    assert without_texts(read) == replace(without_texts(archived), id=None, stop_time=stop_time)


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(FULL), **changes}).encode()


def nested(depth: int) -> dict[str, Any]:
    return {"hostname": "f0101", "more": nested(depth - 1)} if depth else {"hostname": "f0101"}


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff\xfe{}", "JSON"),
        (b"[" * 100_000, "JSON"),
        (PLAIN[:-1].encode(), "JSON"),
        (PLAIN.encode() + b"x", "JSON"),
        (b"null", "object"),
        (b"[]", "object"),
        (b"7", "object"),
        (changed(jobId=None), "jobId"),
        (changed(jobId="7"), "jobId"),
        (changed(jobId=True), "jobId"),
        (changed(jobId=1.5), "jobId"),
        (changed(jobId=-1), "jobId"),
        (changed(jobId=2**64), "jobId"),
        (changed(user=7), "user"),
        (changed(cluster=["large"]), "cluster"),
        (changed(startTime="now"), "startTime"),
        (changed(duration=None), "duration"),
        (changed(duration=-1), "duration"),
        (changed(jobState="running"), "jobState"),
        (changed(jobState="finished"), "jobState"),
        (changed(jobState=["failed"]), "jobState"),
        (changed(resources="f0101"), "resources"),
        (changed(resources=None), "resources"),
        (changed(tags={}), "tags"),
        (changed(tags=["x"]), "tags"),
        (changed(tags=[{"type": "x"}]), "tags"),
        (changed(submitTime=-1), "submitTime"),
        (changed(requestedMemory="1 GB"), "requestedMemory"),
        (changed(energy="7"), "energy"),
        (changed(energy=False), "energy"),
        (changed(footprint=[]), "footprint"),
        (changed(energyFootprint=7), "energyFootprint"),
        (changed(shared="none"), "shared"),
        (changed(metaData=[]), "metaData"),
        (changed(statistics=[]), "statistics"),
        (changed(statistics={"x": 7}), "statistics"),
        (changed(statistics={"x": {"unit": 7}}), "statistics"),
        (changed(statistics={"x": {"unit": {"prefix": "G"}}}), "statistics"),
        (changed(resources=[nested(300)]), "JSON|nest"),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_error_of_an_invalid_document_names_the_field(data: bytes, word: str) -> None:
    with pytest.raises(ArchiveError, match=word):
        meta_json.decode(data)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(
    st.binary(max_size=60) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))
)
def test_random_bytes_are_an_archive_error(data: bytes) -> None:
    with pytest.raises(ArchiveError):
        meta_json.decode(data)


@given(st.dictionaries(st.sampled_from(sorted(json.loads(FULL))), ANYTHING, min_size=1, max_size=3))
def test_random_json_is_a_job_or_an_archive_error(changes: dict[str, Any]) -> None:
    try:
        read = meta_json.decode(json.dumps({**json.loads(FULL), **changes}).encode())
    except ArchiveError:
        return
    assert meta_json.decode(meta_json.encode(read)) == read


@given(st.data())
def test_damaged_file_is_a_job_or_an_archive_error(data: st.DataObject) -> None:
    text = bytearray(FULL.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = meta_json.decode(bytes(text))
    except ArchiveError:
        return
    assert meta_json.decode(meta_json.encode(read)) == read


def test_unknown_and_missing_optional_fields_are_accepted() -> None:
    values = json.loads(PLAIN) | {"concurrentJobs": {"count": 1}, "rack": 7, "id": 5}
    for optional in ("project", "subCluster", "exclusive", "shared", "tags", "statistics"):
        del values[optional]
    read = meta_json.decode(json.dumps(values).encode())
    assert (read.id, read.project, read.sub_cluster, read.exclusive) == (None, "", "", 1)
    assert (read.tags, read.statistics) == ("[]", None)


@pytest.mark.parametrize("field", ["partition", "arrayJobId", "numAcc", "metaData", "statistics"])
def test_null_means_not_given(field: str) -> None:
    values = json.loads(FULL)
    absent = {name: value for name, value in values.items() if name != field}
    assert meta_json.decode(json.dumps({**values, field: None}).encode()) == meta_json.decode(
        json.dumps(absent).encode()
    )
