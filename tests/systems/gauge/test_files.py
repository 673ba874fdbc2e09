"""Configuration files: round trips, headers of other writers, damage noticed."""

import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slmc.systems.gauge import (
    BrokenConfigurationError,
    random_links,
    read_ildg,
    read_nersc,
    write_ildg,
    write_nersc,
)
from slmc.systems.gauge.observables import plaquette

SHAPE = (2, 4, 3, 2)


@pytest.fixture(scope="module")
def links():
    return random_links(jax.random.key(1), SHAPE, 3)


WRITERS = {"ILDG": (write_ildg, read_ildg), "NERSC": (write_nersc, read_nersc)}


@pytest.mark.parametrize("name", WRITERS)
def test_round_trip(name, links, tmp_path):
    write, read = WRITERS[name]
    write(tmp_path / "links", links)
    np.testing.assert_array_equal(read(tmp_path / "links"), links)


def test_order_of_numbers(links, tmp_path):
    """x fastest, then y, z, t, then direction, row, column: the first links by hand."""
    write_nersc(tmp_path / "links", links)
    data = (tmp_path / "links").read_bytes().split(b"END_HEADER\n", 1)[1]
    numbers = np.frombuffer(data, ">f8").reshape(-1, 4, 3, 3, 2)
    array = np.asarray(links)
    second = array[:, 1, 0, 0, 0]
    np.testing.assert_array_equal(numbers[1], np.moveaxis(second, 1, -1))
    after_x = array[:, 0, 1, 0, 0]
    np.testing.assert_array_equal(numbers[SHAPE[0]], np.moveaxis(after_x, 1, -1))


def test_two_rows_in_single_precision(links, tmp_path):
    """The older NERSC kind, as other codes write it."""
    array = np.asarray(links)
    rows = np.transpose(array[..., :2, :], (4, 3, 2, 1, 0, 6, 7, 5)).astype(">f4")
    words = int(np.sum(np.frombuffer(rows.tobytes(), ">u4"), dtype=np.uint64) % 2**32)
    trace = np.mean(np.trace(array[..., 0, :, :], axis1=-2, axis2=-1)) / 3
    header = (
        "BEGIN_HEADER\nHDR_VERSION = 1.0\nDATATYPE = 4D_SU3_GAUGE\nSTORAGE_FORMAT = 1.0\n"
        + "".join(f"DIMENSION_{k + 1} = {extent}\n" for k, extent in enumerate(SHAPE))
        + f"LINK_TRACE = {trace:.8g}\nPLAQUETTE = {float(plaquette(links)):.8g}\n"
        + f"CHECKSUM = {words:x}\nFLOATING_POINT = IEEE32BIG\nEND_HEADER\n"
    )
    (tmp_path / "links").write_bytes(header.encode() + rows.tobytes())
    np.testing.assert_allclose(read_nersc(tmp_path / "links"), links, atol=1e-6)


def test_lime_records(links, tmp_path):
    """Magic number, version, begin and end of the message, padding to eight bytes, types in order."""
    write_ildg(tmp_path / "links", links, "lfn://example/links")
    content, place, seen = (tmp_path / "links").read_bytes(), 0, []
    while place < len(content):
        magic, version, flags, length, kind = struct.unpack_from(">IHHQ128s", content, place)
        assert (magic, version) == (0x456789AB, 1)
        seen.append((kind.rstrip(b"\0").decode(), flags))
        place += 144 + length + (-length % 8)
    assert place == len(content)
    assert seen == [
        ("ildg-format", 0x8000),
        ("scidac-record-xml", 0),
        ("ildg-binary-data", 0),
        ("ildg-data-lfn", 0),
        ("scidac-checksum", 0x4000),
    ]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("damage", ["flipped", "cut", "wrong plaquette", "another format"])
def test_damage_is_noticed(name, damage, links, tmp_path):
    write, read = WRITERS[name]
    write(tmp_path / "links", links)
    content = bytearray((tmp_path / "links").read_bytes())
    words = {"flipped": "checksum is", "cut": "cut or damaged", "wrong plaquette": "plaquette of the links is"}
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    elif damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "another format":
        content = bytearray(b"something else" * 100)
    else:
        stored = f"{float(plaquette(links)):.15g}".encode()
        assert stored in content
        content = bytearray(bytes(content).replace(stored, b"0.5" + b"0" * (len(stored) - 3)))
    (tmp_path / "links").write_bytes(bytes(content))
    with pytest.raises(BrokenConfigurationError, match=words.get(damage, "not a")):
        read(tmp_path / "links")


def with_records(content, **replaced):
    """An ILDG file with the content of records replaced, or without those that are ``None``."""
    place, result = 0, b""
    while place < len(content):
        length, kind = struct.unpack_from(">Q128s", content, place + 8)
        name = kind.rstrip(b"\0").decode().replace("-", "_")
        body = replaced.get(name, content[place + 144 : place + 144 + length])
        if body is not None:
            result += content[place : place + 8] + struct.pack(">Q128s", len(body), kind)
            result += body + b"\0" * (-len(body) % 8)
        place += 144 + length + -length % 8
    return result


def usqcd_info(plaquette):
    return f"<usqcdInfo><version>1.0</version><plaq>{plaquette}</plaq></usqcdInfo>".encode()


@pytest.mark.parametrize("record", ["rounded", b"", b"made on a Monday", usqcd_info(""), usqcd_info("missing"), None])
def test_what_the_user_wrote_about_a_configuration_does_not_damage_it(record, links, tmp_path):
    """Other codes round the plaquette, and the record may hold anything."""
    write_ildg(tmp_path / "links", links)
    record = usqcd_info(f"{float(plaquette(links)):e}") if record == "rounded" else record
    content = with_records((tmp_path / "links").read_bytes(), scidac_record_xml=record, scidac_checksum=None)
    (tmp_path / "links").write_bytes(content)
    np.testing.assert_array_equal(read_ildg(tmp_path / "links"), links)


@pytest.mark.parametrize(
    ("name", "record", "words"),
    [
        ("scidac_record_xml", usqcd_info("5.5e-01"), "plaquette of the links is"),
        ("scidac_checksum", b"<scidacChecksum><suma>1</suma></scidacChecksum>", "two sums in hexadecimal: 'sumb'"),
        ("scidac_checksum", b"<scidacChecksum><suma>1</suma><sumb>x</sumb></scidacChecksum>", "invalid literal"),
        ("scidac_checksum", b"", "no XML"),
        ("ildg_format", b"", "no XML"),
    ],
)
def test_a_record_that_is_wrong_is_named(name, record, words, links, tmp_path):
    write_ildg(tmp_path / "links", links)
    (tmp_path / "links").write_bytes(with_records((tmp_path / "links").read_bytes(), **{name: record}))
    with pytest.raises(BrokenConfigurationError, match=words):
        read_ildg(tmp_path / "links")


@pytest.mark.parametrize("change", [lambda u: 1.001 * u, lambda u: -u, lambda u: jnp.nan * u])
@pytest.mark.parametrize("name", WRITERS)
def test_links_outside_the_group_are_noticed_without_any_record(name, change, links, tmp_path):
    """Not unitary, a determinant of −1, no numbers: whatever a header says of them."""
    write, read = WRITERS[name]
    write(tmp_path / "links", change(links))
    if name == "ILDG":
        content = (tmp_path / "links").read_bytes()
        (tmp_path / "links").write_bytes(with_records(content, scidac_record_xml=None, scidac_checksum=None))
    with pytest.raises(BrokenConfigurationError, match=r"not in SU\(3\)"):
        read(tmp_path / "links")


@pytest.mark.parametrize("name", WRITERS)
def test_only_su3_in_four_dimensions_is_written(name, tmp_path):
    with pytest.raises(ValueError, match=r"SU\(2\) in 4"):
        WRITERS[name][0](tmp_path / "links", random_links(jax.random.key(2), (2, 2, 2, 2), 2))
