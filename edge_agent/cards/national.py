"""The session with a national card. Holding a `NationalCard` is the proof that one is there and was recognised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

from edge_agent.cards import lds, tlv
from edge_agent.cards.apdu import SW_END_OF_FILE, SW_OK, Command, Response
from edge_agent.cards.channel import Channel
from edge_agent.cards.errors import CardDataError, CardRefusedError, CardUnsupportedError
from edge_agent.cards.profile import Profile
from edge_agent.cards.verdict import CHALLENGE_BYTES, CardVerdict

Progress: TypeAlias = Callable[[int, int], None]
"""Told (files read, files in all), first with 0."""

_SELECT: Final = 0xA4
_READ_BINARY: Final = 0xB0
_READ_BINARY_ODD: Final = 0xB1
_INTERNAL_AUTHENTICATE: Final = 0x88
_MAX_SHORT_OFFSET: Final = 0x7FFF
_MAX_INFO_FILE_BYTES: Final = 512
_EXTENDED_LENGTH_INFO: Final = 0x7F66
_APPLICATION_TEMPLATE: Final = 0x61
_APPLICATION_ID: Final = 0x4F


@dataclass(frozen=True, slots=True)
class CardRecord:
    """What was read, byte for byte; nothing in it is verified yet. Without contents in its repr."""

    security_object: bytes = field(repr=False)
    groups: Mapping[int, bytes] = field(repr=False)
    card_certificate: bytes = field(repr=False)
    """DER certificate of the card's key 03."""


class NationalCard:
    """A card of `profile`, selected and ready. Made by `open` only."""

    def __init__(self, channel: Channel, profile: Profile, max_le: int) -> None:
        """For `open`: the card has answered for itself by then."""
        self._channel = channel
        self._max_le = max_le
        self.profile = profile

    @classmethod
    async def open(cls, channel: Channel, profile: Profile) -> NationalCard:
        """Recognise the card: master file, EF.ATR/INFO, EF.DIR with both applications, LDS application.

        Raises:
            CardUnsupportedError: it answers, but is not a card of this profile.
            CardGoneError: it left.
        """
        card = cls(channel, profile, profile.max_le)
        try:
            await card._select(0x00, profile.master_file)
            card._max_le = _bounded_le(await card._read_info(profile.sfi_atr_info), profile.max_le)
            applications = _applications(await card._read_info(profile.sfi_directory))
            if not applications >= {profile.lds_aid, profile.eid_aid}:
                raise CardUnsupportedError("an application is missing")
            await card._select(0x04, profile.lds_aid)
        except (CardRefusedError, CardDataError) as exc:
            raise CardUnsupportedError(str(exc)) from exc
        return card

    async def read(self, progress: Progress | None = None) -> CardRecord:
        """Read security object, data groups and card certificate.

        Raises:
            CardDataError: a file is not what it says it is, or is beyond the profile's limits.
            CardRefusedError: the card refuses a command.
            CardGoneError: it left.
        """
        profile = self.profile
        files = len(profile.group_sfis) + 2
        tell = progress or _tell_nobody
        tell(0, files)
        await self._select(0x04, profile.lds_aid)
        security_object = await self._read_by_sfi(profile.sfi_security_object, lds.TAG_SOD)
        tell(1, files)
        groups = {}
        for number, sfi in profile.group_sfis:
            groups[number] = await self._read_by_sfi(sfi, lds.GROUP_TAGS[number])
            tell(1 + len(groups), files)
        await self._select(0x04, profile.eid_aid)
        await self._select(0x02, profile.card_certificate_fid)
        certificate = await self._read_selected(0x30, profile.max_certificate_bytes)
        tell(files, files)
        return CardRecord(security_object, MappingProxyType(groups), certificate)

    async def verdict(self, challenge: bytes) -> CardVerdict:
        """Have the card sign `challenge` (32 bytes) together with its own status. Needs no PIN, asks for none.

        Raises:
            CardDataError: the answer is not a verdict.
            CardRefusedError: the card refuses.
            CardGoneError: it left.
        """
        if len(challenge) != CHALLENGE_BYTES:
            raise ValueError("a challenge has 32 bytes")
        await self._select(0x04, self.profile.eid_aid)
        command = Command(0x00, _INTERNAL_AUTHENTICATE, 0x00, self.profile.card_key_reference, challenge, 256)
        return CardVerdict.parse(_need_ok(await self._channel.send(command), "verdict").data)

    async def _select(self, by: int, name: bytes) -> None:
        """SELECT by file id (00, 02) or application id (04), without asking for file control information."""
        _need_ok(await self._channel.send(Command(0x00, _SELECT, by, 0x0C, name)), "select")

    async def _read_info(self, sfi: int) -> bytes:
        """A small file that is a list of data objects, whole in one answer."""
        command = Command(0x00, _READ_BINARY, 0x80 | sfi, 0x00, le=256)
        data = _need_data(await self._channel.send(command))
        if len(data) > _MAX_INFO_FILE_BYTES:
            raise CardDataError("an information file is too long")
        return data

    async def _read_by_sfi(self, sfi: int, tag: int) -> bytes:
        """A file by its short id, which also selects it: the rest follows by offset (ISO/IEC 7816-4 clause 11.3)."""
        command = Command(0x00, _READ_BINARY, 0x80 | sfi, 0x00, le=self._max_le)
        return await self._read_rest(await self._channel.send(command), tag, self.profile.max_file_bytes)

    async def _read_selected(self, tag: int, max_bytes: int) -> bytes:
        """The selected file."""
        command = Command(0x00, _READ_BINARY, 0x00, 0x00, le=self._max_le)
        return await self._read_rest(await self._channel.send(command), tag, max_bytes)

    async def _read_rest(self, first: Response, tag: int, max_bytes: int) -> bytes:
        """The data object at the head of the selected file, of which `first` is the beginning."""
        data = _need_data(first)
        found, head, length = tlv.header(data)
        total = head + length
        if found != tag:
            raise CardDataError(f"a file does not begin with data object {tag:X}")
        if total > max_bytes:
            raise CardDataError("a file is longer than its limit")
        reads = 1
        while len(data) < total:
            reads += 1
            if reads > self.profile.max_reads_per_file:
                raise CardDataError("a file comes in too many pieces")
            data += await self._read_at(len(data), min(self._max_le, total - len(data)))
        return data[:total]

    async def _read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes, at least one, from `offset` of the selected file."""
        if offset <= _MAX_SHORT_OFFSET:
            data = _need_data(
                await self._channel.send(Command(0x00, _READ_BINARY, offset >> 8, offset & 0xFF, le=size))
            )
        else:
            # bit 8 of P1 means a short id: from 8000 on the offset goes into a data object and so does the answer
            command = Command(0x00, _READ_BINARY_ODD, 0x00, 0x00, tlv.encode(0x54, offset.to_bytes(2)), 256)
            data = tlv.only(_need_data(await self._channel.send(command)), 0x53)
            size = 256
        if not 1 <= len(data) <= size:
            raise CardDataError("the card gave nothing, or more than was asked for")
        return data


def _need_ok(response: Response, during: str) -> Response:
    if not response.ok:
        raise CardRefusedError(response.sw, during)
    return response


def _need_data(response: Response) -> bytes:
    """The data of a READ BINARY: complete, or cut by the end of the file (6282)."""
    if response.sw not in (SW_OK, SW_END_OF_FILE):
        raise CardRefusedError(response.sw, "read")
    return response.data


def _bounded_le(info: bytes, max_le: int) -> int:
    """The most that may be asked for in one READ: ours or, if EF.ATR/INFO gives one, the card's (7F66, ISO 7816-4)."""
    limits = tlv.find(tlv.parse(info), _EXTENDED_LENGTH_INFO)
    if limits is None:
        return max_le
    match tlv.parse(limits, max_count=2):
        case [tlv.Tlv(tag=0x02), tlv.Tlv(tag=0x02, value=answer)]:
            return max(1, min(max_le, int.from_bytes(answer) - 2))
        case _:
            raise CardDataError("EF.ATR/INFO has malformed limits")


def _applications(directory: bytes) -> set[bytes]:
    """The application ids that EF.DIR lists."""
    templates = [item.value for item in tlv.parse(directory) if item.tag == _APPLICATION_TEMPLATE]
    return {tlv.need(tlv.parse(template), _APPLICATION_ID) for template in templates}


def _tell_nobody(_done: int, _of: int) -> None:
    return
