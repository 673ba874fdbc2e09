"""Configuration files: round trips, headers of other writers, damage noticed."""

import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference_files as writers
import reference_gauge as reference
from slmc.systems.gauge import (
    BrokenConfigurationError,
    UnverifiedLinksWarning,
    random_links,
    read_ildg,
    read_links,
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
    """Other codes round the plaquette, and the record may hold anything; where it tells nothing a note says so."""
    write_ildg(tmp_path / "links", links)
    written = usqcd_info(f"{float(plaquette(links)):e}") if record == "rounded" else record
    content = with_records((tmp_path / "links").read_bytes(), scidac_record_xml=written, scidac_checksum=None)
    (tmp_path / "links").write_bytes(content)
    stored = read_links(tmp_path / "links")
    np.testing.assert_array_equal(stored.links, links)
    assert len(stored.notes) == (record != "rounded")


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
def test_only_four_dimensions_are_written(name, tmp_path):
    with pytest.raises(ValueError, match="4 dimensions; got 3"):
        WRITERS[name][0](tmp_path / "links", random_links(jax.random.key(2), (2, 2, 2), 2))


# --- files of an independent writer ----------------------------------------------------------------------------------

SMALL = (2, 1, 2, 1)


def group_field(n, shape=SMALL, seed=3):
    return reference.random_group(np.random.default_rng(seed), 4, *shape, n)


def stored_as(tmp_path, content):
    (tmp_path / "links").write_bytes(content)
    return tmp_path / "links"


ORDERS = {
    "IEEE64BIG": ">d",
    "IEEE64LITTLE": "<d",
    "IEEE32BIG": ">f",
    "IEEE32LITTLE": "<f",
}


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("told", [True, False])
def test_nersc_files_of_any_order_of_bytes(n, order, told, tmp_path):
    """Without an ending the checksum decides."""
    u = group_field(n)
    content = writers.nersc(u, order if told else order[:6], ORDERS[order])
    found = read_nersc(stored_as(tmp_path, content))
    tolerance = 1e-15 if "64" in order else 2e-7
    np.testing.assert_allclose(reference.complex_links(found), u, atol=tolerance)
    assert len(content) < 6000


def test_a_file_said_to_be_in_the_other_order_is_refused(tmp_path):
    content = writers.nersc(group_field(3), "IEEE64BIG", "<d")
    with pytest.raises(BrokenConfigurationError, match="checksum is"):
        read_nersc(stored_as(tmp_path, content))


@pytest.mark.parametrize("letter", ["<d", ">f"])
def test_two_rows_are_completed(letter, tmp_path):
    u = group_field(3)
    found = read_nersc(stored_as(tmp_path, writers.nersc(u, f"IEEE{64 if letter[1] == 'd' else 32}", letter, rows=2)))
    np.testing.assert_allclose(reference.complex_links(found), u, atol=1e-14 if letter == "<d" else 2e-7)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("letter", [">d", ">f"])
def test_ildg_files_of_any_group(n, letter, tmp_path):
    u = group_field(n)
    stored = read_links(stored_as(tmp_path, writers.ildg(u, letter)), SMALL)
    np.testing.assert_allclose(reference.complex_links(stored.links), u, atol=1e-15 if letter == ">d" else 2e-7)
    assert (stored.bits, stored.notes) == (64 if letter == ">d" else 32, ())


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_files_of_any_group_are_those_of_the_independent_writer(name, n, tmp_path):
    """Numbers and sums, whatever the order of header lines; once of so many sites that both sums of ILDG turn round."""
    u = group_field(n, (3, 2, 3, 2) if n == 2 else SMALL)
    links = jnp.asarray(reference.stored(u))
    WRITERS[name][0](tmp_path / "links", links)
    np.testing.assert_array_equal(read_links(tmp_path / "links").links, links)
    content = (tmp_path / "links").read_bytes()
    other = writers.nersc(u) if name == "NERSC" else writers.ildg(u)
    assert writers.numbers(u, ">d") in content
    if name == "NERSC":
        for line in other.split(b"END_HEADER")[0].splitlines():
            same = line in content.splitlines() or line.startswith((b"PLAQUETTE", b"LINK_TRACE"))
            assert same or int(line.split(b"= ")[1], 16) == int(content.split(b"CHECKSUM = ")[1].split()[0], 16)
    else:
        for name in (b"field", b"precision", b"suma", b"sumb"):
            element = other.split(b"<" + name)[1].split(b"<")[0]
            assert element in content


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("letter", [">d", ">f"])
def test_links_alone_are_read_with_a_shape_and_a_note(n, letter, tmp_path):
    """N and the precision follow from the length."""
    u = group_field(n)
    path = stored_as(tmp_path, writers.lime([("ildg-binary-data", writers.numbers(u, letter))]))
    stored = read_links(path, SMALL)
    np.testing.assert_allclose(reference.complex_links(stored.links), u, atol=1e-15 if letter == ">d" else 2e-7)
    assert "nothing was verified but that the links are in the group" in stored.notes[0]
    with pytest.warns(UnverifiedLinksWarning, match="holds links alone"):
        read_ildg(path, SMALL)
    with pytest.raises(BrokenConfigurationError, match="Give its shape"):
        read_links(path)
    for shape, words in (((2, 1, 2, 3), "no SU"), ((2, 2, 1, 0), "four positive extents")):
        with pytest.raises(BrokenConfigurationError, match=words):
            read_links(path, shape)


@pytest.mark.parametrize("off", [9e-11, 5e-7])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_links_off_the_group_by_rounding_are_projected_with_a_note(off, n, tmp_path):
    """As trajectories leave them that never project."""
    u = group_field(n)
    scaled = u * (1 + off * np.random.default_rng(1).uniform(-0.2, 0.2, u.shape))
    path = stored_as(tmp_path, writers.nersc(scaled))
    stored = read_links(path)
    found = reference.complex_links(stored.links)
    unitarity = found @ np.conj(np.swapaxes(found, -1, -2)) - np.eye(n)
    assert np.max(abs(unitarity)) < 1e-14
    np.testing.assert_allclose(np.linalg.det(found), 1, atol=1e-13)
    np.testing.assert_allclose(found, u, atol=2 * off)
    assert f"off SU({n}) by" in stored.notes[0]
    with pytest.warns(UnverifiedLinksWarning, match="projected"):
        read_nersc(path)


def test_links_further_off_the_group_are_refused(tmp_path):
    path = stored_as(tmp_path, writers.nersc(group_field(3) * (1 + 2e-6)))
    with pytest.raises(BrokenConfigurationError, match=r"not in SU\(3\), by"):
        read_links(path)


@pytest.mark.parametrize("write", [writers.nersc, writers.ildg])
@pytest.mark.parametrize(("off", "holds"), [(9e-6, True), (2e-5, False)])
def test_averages_may_be_off_as_single_precision_where_the_checksum_agrees(write, off, holds, tmp_path):
    u = group_field(3)
    plaquette, trace = writers.averages(u)
    changes = {"plaq": f"{plaquette + off:.12f}"}
    if write is writers.nersc:
        changes = {"PLAQUETTE": changes["plaq"], "LINK_TRACE": f"{trace - off:.12f}"}
    path = stored_as(tmp_path, write(u, **changes))
    if holds:
        np.testing.assert_allclose(reference.complex_links(read_links(path).links), u, atol=1e-15)
    else:
        with pytest.raises(BrokenConfigurationError, match="plaquette of the links is"):
            read_links(path)


ABSURD = {
    "DIMENSION_1": ["0", "-2", "1e99999", "9" * 400, "9" * 6000, "two", "2.0", None],
    "PLAQUETTE": ["1e99999", "-1e308", "nan", "-inf", "1e-" + "9" * 5000, "", None],
    "LINK_TRACE": ["-1e308", "1e99999", "plenty"],
    "CHECKSUM": ["f" * 5000, "-1", "xyz", None],
    "FLOATING_POINT": ["IEEE128", "", None],
    "DATATYPE": ["4D_SU0_GAUGE_0x0", "4D_SU1_GAUGE_1x1", "4D_SU3_GAUGE_3x2", f"4D_SU{9**40}_GAUGE", None],
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_headers_take_one_sentence(name, tmp_path):
    """And no memory: each is refused before anything of the size it claims is allocated."""
    u = group_field(2)
    for value in ABSURD[name]:
        path = stored_as(tmp_path, writers.nersc(u, **{name: value}))
        with pytest.raises(BrokenConfigurationError) as caught:
            read_links(path)
        sentence = str(caught.value)
        assert sentence.startswith(str(path))
        assert "\n" not in sentence
        assert len(sentence) < len(str(path)) + 300


ABSURD_ILDG = {
    "lx": ["0", "-1", "1e99999", "9" * 400, "9" * 6000, ""],
    "field": ["su1gauge", "su99999gauge", "u1gauge", ""],
    "precision": ["65", "", "-32"],
    "plaq": ["1e99999", "-1e308", "nan"],
    "suma": ["f" * 5000, "-1", ""],
}


@pytest.mark.parametrize("name", ABSURD_ILDG)
def test_absurd_records_take_one_sentence(name, tmp_path):
    u = group_field(2)
    for value in ABSURD_ILDG[name]:
        path = stored_as(tmp_path, writers.ildg(u, **{name: value}))
        with pytest.raises(BrokenConfigurationError) as caught:
            read_links(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < len(str(path)) + 300


def test_lengths_that_no_file_has_take_no_memory(tmp_path):
    """A record of 2⁶³ bytes; a lattice of 10³⁰ sites; a description of two million bytes; a definition of entities."""
    content = bytearray(writers.ildg(group_field(2)))
    content[8:16] = struct.pack(">Q", 2**63)
    with pytest.raises(BrokenConfigurationError, match="ends inside a LIME record"):
        read_links(stored_as(tmp_path, bytes(content)))
    path = stored_as(tmp_path, writers.lime([("ildg-binary-data", bytes(64))]))
    with pytest.raises(BrokenConfigurationError, match="no SU"):
        read_links(path, (10**10, 10**10, 10**10, 1))
    for record in (bytes(2_000_000), b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'):
        path = stored_as(tmp_path, writers.lime([("ildg-format", record), ("ildg-binary-data", bytes(64))]))
        with pytest.raises(BrokenConfigurationError, match="lacks a field"):
            read_links(path)


def test_another_lattice_is_refused(tmp_path):
    for content in (writers.nersc(group_field(2)), writers.ildg(group_field(2))):
        with pytest.raises(BrokenConfigurationError, match=r"a lattice \[2, 1, 2, 1\], not \[4, 4, 4, 4\]"):
            read_links(stored_as(tmp_path, content), (4, 4, 4, 4))
