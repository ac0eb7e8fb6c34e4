"""The record is read, in every protocol; anything else in a pickle is refused, named, and never run."""

from __future__ import annotations

import builtins
import contextlib
import functools
import os
import pickle
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from legacy_files import (
    MODULE,
    NDARRAY,
    RECONSTRUCT,
    RECORD,
    Structure,
    as_aenet_python,
    dtype,
    empty_array,
    named,
    pickled,
    record_with,
    state,
    text,
)

from aenet_ray.errors import StructureError, UnsafeFileError
from aenet_ray.legacy.record import read_record

WHERE = "old.h5, entry 3"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_record_in_every_protocol(protocol):
    forces = np.arange(9.0).reshape(3, 3) / 7
    cell = np.asfortranarray(np.diag([4.0, 5.0, 6.0]) + 0.1 * np.arange(9).reshape(3, 3))
    found = read_record(
        pickled(protocol, forces=forces, cell=cell, pbc=np.array([True, False, True]), name="mölécule"), WHERE
    )
    np.testing.assert_array_equal(found.positions, state()["positions"])
    np.testing.assert_array_equal(found.forces, forces)
    np.testing.assert_array_equal(found.cell, cell)
    np.testing.assert_array_equal(found.pbc, [True, False, True])
    assert found.species == ["O", "H", "H"]
    assert all(type(s) is str for s in found.species)
    assert (found.energy, found.name) == (-471.5, "mölécule")


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize(
    ("given", "expected"),
    [(np.float64(-2.5), -2.5), (np.float32(-2.5), -2.5), (3, 3.0), (None, None), (float("nan"), None)],
)
def test_energies(protocol, given, expected):
    assert read_record(pickled(protocol, energy=given), WHERE).energy == expected


@pytest.mark.parametrize("values", [np.arange(9.0).reshape(3, 3)[::-1], np.arange(9.0).reshape(3, 3).astype(">f8")])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_in_other_memory_layouts(values, protocol):
    np.testing.assert_array_equal(read_record(pickled(protocol, forces=values), WHERE).forces, values)


def test_the_older_names_of_numpy():
    data = pickled(2)
    older = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert older != data
    np.testing.assert_array_equal(read_record(older, WHERE).positions, state()["positions"])


class Call:
    """Pickled, a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Persistent(pickle.Pickler):
    def persistent_id(self, obj):
        return "os.system" if isinstance(obj, np.ndarray) else None


def persistent() -> bytes:
    import io

    with as_aenet_python():
        out = io.BytesIO()
        Persistent(out, 4).dump(Structure(**state()))
    return out.getvalue()


def smuggled(tmp_path) -> dict[str, tuple[bytes, str]]:
    """Pickles that try something, and what the refusal must name."""
    mark = str(tmp_path / "touched")
    code = f"open({mark!r}, 'w').close()"
    bad = {
        "os.system": (pickled(energy=Call(os.system, f"touch {mark}")), r"(posix|nt)\.system"),
        "eval": (pickled(energy=Call(eval, code)), r"builtins\.eval"),
        "exec": (pickled(name=Call(exec, code)), r"builtins\.exec"),
        "getattr": (pickled(cell=Call(getattr, Call(__import__, "os"), "mkdir")), r"builtins\.getattr"),
        "popen": (pickled(species=[Call(subprocess.Popen, ["touch", mark])]), r"subprocess\.Popen"),
        "partial": (pickled(energy=functools.partial(os.mkdir, mark)), r"functools\.partial"),
        "mkdir instead of the record": (pickle.dumps(Call(os.mkdir, mark)), r"(posix|nt)\.mkdir"),
        "objects in an array": (pickled(forces=np.array([Call(os.mkdir, mark)], dtype=object)), "'O8'"),
        "records in an array": (pickled(forces=np.zeros(2, dtype=[("a", "f8")])), "'V8'"),
        "times in an array": (pickled(forces=np.zeros(2, dtype="M8[s]")), "'M8'"),
        "a dotted name": (record_with(b"\x8c\x05numpy\x8c\x0dcore.os.mkdir\x93"), r"numpy\.core\.os\.mkdir"),
        "a dotted way out of the class": (record_with(named(MODULE, "Structure.__init__")), r"Structure\.__init__"),
        "numpy's pickle loader": (record_with(named("numpy", "load")), r"numpy\.load"),
        "another class of aenet-python": (record_with(named(MODULE, "TorchTrainingConfig")), "TorchTrainingConfig"),
        "a subclass's array": (
            record_with(RECONSTRUCT + named(MODULE, "Structure") + b"K\x00\x85C\x01b\x87R"),
            "class",
        ),
        "the record's class called": (record_with(named(MODULE, "Structure") + b")R"), "calls 'aenet"),
        "ndarray called": (record_with(NDARRAY + b"K\x05\x85\x85R"), r"calls 'numpy\.ndarray'"),
        "ndarray as the record": (b"\x80\x04" + NDARRAY + b")\x81.", r"numpy\.ndarray"),
        "state of a class": (record_with(NDARRAY + b"}b"), "state of a class"),
        "state of a function": (record_with(RECONSTRUCT + b"N}" + text("x") + b"K\x01s\x86b"), "state of a class"),
        "state of a list": (record_with(b"]}b"), "state of a list"),
        "state twice": (RECORD + b"}b}b.", "state of a record"),
        "slots in the state": (RECORD + b"N}" + text("__class__") + b"K\x01s\x86b.", "state of a record"),
        "a call of data": (record_with(text("os.system") + text("id") + b"\x85R"), "calls a str"),
        "another codec": (
            record_with(named("_codecs", "encode") + text("x") + text("unicode_escape") + b"\x86R"),
            "enc",
        ),
        "persistent": (persistent(), "instruction b'Q'"),
        "persistent text": (record_with(b"Pos.system\n"), "instruction b'P'"),
        "an extension": (record_with(b"\x82\x01"), "instruction"),
        "an instance by the old way": (record_with(b"(ios\nsystem\n"), "instruction b'i'"),
        "new with keywords": (record_with(named(MODULE, "Structure") + b")}\x92"), "instruction"),
        "a next buffer": (record_with(b"\x97"), "instruction"),
        "a set": (record_with(b"\x8f"), "instruction"),
        "a type of flags": (
            record_with(dtype("f8") + b"(K\x03" + text("|") + b"NN}K\x08K\x08K\x3ftb"),
            "arrays of records",
        ),
        "deep keys": (record_with(b"}" + b")" + b"\x85" * 100_000 + b"Ns"), "keys that are no names"),
        "a text encoded again and again": (BOMBS["a text encoded again and again"], "makes more data than it holds"),
        "appending to a tuple": (record_with(b")Na"), "appends to a tuple"),
    }
    return bad


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    return folder, smuggled(folder)


def test_what_is_smuggled_is_refused_named_and_not_run(bad):
    folder, cases = bad
    assert len(cases) >= 30
    for what, (data, named_as) in cases.items():
        with pytest.raises(UnsafeFileError, match=rf"^old\.h5, entry 3: refused: .*{named_as}") as raised:
            read_record(data, WHERE)
        assert "Nothing of it was run" in str(raised.value), what
        assert not (folder / "touched").exists(), what


def test_these_pickles_do_work(bad):
    """At least the plain ones would have run: the test above is not about bytes that nobody could load."""
    folder, cases = bad
    with as_aenet_python():
        pickle.loads(cases["eval"][0])
    assert (folder / "touched").exists()
    (folder / "touched").unlink()


DAMAGED = {
    "nothing": b"",
    "no pickle": b"hello",
    "cut": pickled()[:-40],
    "cut before its end": pickled()[:-1],
    "unknown protocol": b"\x80\x09N.",
    "a list": pickle.dumps([1, 2], protocol=4),
    "two values": b"\x80\x04NN.",
    "nothing on the stack": b"\x80\x04.",
    "a mark that is missing": b"\x80\x04t.",
    "memory that is not there": b"\x80\x04h\x07.",
    "no UTF-8": b"\x80\x04\x8c\x02\xff\xfe.",
    "an array too long": record_with(
        empty_array() + b"(K\x01K\x63\x85" + dtype("f8") + b"\x89C\x08" + bytes(8) + b"tb"
    ),
    "an array with a negative shape": record_with(
        empty_array() + b"(K\x01J" + struct.pack("<i", -1) + b"\x85" + dtype("f8") + b"\x89C\x08" + bytes(8) + b"tb"
    ),
    "an unfinished array": record_with(empty_array(), "positions"),
    "no positions": record_with(b"K\x01"),
    "positions of text": pickled(positions=np.array(["a"])),
    "positions in a list": pickled(positions=[[0.0, 0.0, 0.0]]),
    "species of numbers": pickled(species=[8, 1, 1]),
    "energy of text": pickled(energy="low"),
    "a name of numbers": pickled(name=3),
    "forces as a dictionary": pickled(forces={"a": 1}),
    "a new field": pickled(stress=np.zeros((3, 3))),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damage_is_said(data):
    with pytest.raises((StructureError, UnsafeFileError), match=r"^old\.h5, entry 3: "):
        read_record(data, WHERE)


BOMBS = {
    "a huge array": record_with(
        empty_array() + b"(K\x01J\xff\xff\xff\x7f\x85" + dtype("f8") + b"\x89C\x08" + bytes(8) + b"tb"
    ),
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
    "a huge bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
    "a huge text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
    "a huge frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62),
    "a far memory cell": b"\x80\x04Nr\xff\xff\xff\x7fr\xff\xff\xff\x7f.",
    "a text encoded again and again": b"\x80\x04"
    + text("x" * 100_000)
    + b"q\x00"
    + (named("_codecs", "encode") + b"h\x00" + text("latin1") + b"\x86R") * 2000
    + b".",
    "a list in itself": record_with(b"]q\x01h\x01ah\x01a", "positions"),
    "a tower of tuples": record_with(b")" + b"\x85" * 1_000_000),
    "a tower of lists": record_with(b"]" * 1_000_000 + b"a" * 999_999),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_stay_small(name):
    """In a process with 2 GB of address space more than Python takes: whoever reserves a huge block ends there."""
    code = (
        "import resource, sys, time; from aenet_ray.legacy.record import read_record\n"
        "from aenet_ray.errors import AenetRayError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)); t = time.perf_counter()\n"
        "try: read_record(sys.stdin.buffer.read(), 'x')\n"
        "except AenetRayError: print(time.perf_counter() - t)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=BOMBS[name], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()[-500:]
    assert float(done.stdout) < 5


def test_damaged_at_random_it_never_does_more_than_complain():
    """Bytes changed one by one: errors of ours, or a record."""
    rng, good = np.random.default_rng(0), pickled(forces=np.zeros((3, 3)))
    start = time.perf_counter()
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        with contextlib.suppress(StructureError, UnsafeFileError):
            read_record(bytes(data), WHERE)
    assert time.perf_counter() - start < 60


def test_nothing_of_pickle_or_numpy_is_reachable():
    """The reader knows names, never what they name."""
    from aenet_ray.legacy import unpickle

    for function in unpickle._CALLS.values():
        assert function.__module__ == "aenet_ray.legacy.unpickle"
    assert "pickle" not in vars(unpickle)
    assert not any(value is builtins.eval for value in vars(unpickle).values())


def test_records_do_not_share_or_change_anything():
    one, two = read_record(pickled(), WHERE), read_record(pickled(), WHERE)
    assert not one.positions.flags.writeable
    assert one.positions is not two.positions
    assert RECORD.startswith(b"\x80\x04")
