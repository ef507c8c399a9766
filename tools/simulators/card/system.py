"""The operating system of the simulated card: command APDUs in, answers out. Knows no transport and no clock.

It implements what profile ``spine-0`` describes: contact, everything readable in the clear, key 03 without a PIN inside
the eID application, PIN1 with three tries. Secure messaging and the PIN management of NCP-R1 are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from edge_agent.cards import tlv
from edge_agent.cards.apdu import Command
from edge_agent.cards.profile import SPINE_0
from edge_agent.cards.verdict import (
    CHALLENGE_BYTES,
    CardVerdict,
    Interface,
    JournalState,
    Reference,
    Session,
    Status,
)
from tools.simulators.card import commands
from tools.simulators.card.memory import PIN1_TRIES, CardState, Memory
from tools.simulators.issuer import CardImage, ElementaryFile
from wire.inquiry import verdict_digest_input

MAX_ANSWER_BYTES: Final = 1024
PIN_BLOCK_BYTES: Final = 8

OK: Final = 0x9000
END_OF_FILE: Final = 0x6282
WRONG_LENGTH: Final = 0x6700
NO_LOGICAL_CHANNEL: Final = 0x6881
NO_SECURE_MESSAGING: Final = 0x6882
NO_CHAINING: Final = 0x6884
SECURITY_STATUS: Final = 0x6982
BLOCKED: Final = 0x6983
CONDITIONS: Final = 0x6985
NO_CURRENT_FILE: Final = 0x6986
WRONG_DATA: Final = 0x6A80
NOT_FOUND: Final = 0x6A82
WRONG_P1_P2: Final = 0x6A86
NO_REFERENCE: Final = 0x6A88
WRONG_OFFSET: Final = 0x6B00
NO_INSTRUCTION: Final = 0x6D00
NO_CLASS: Final = 0x6E00


class Answer(NamedTuple):
    """What the card answers, and how many signatures that cost: they take time."""

    data: bytes
    sw: int
    signatures: int = 0

    def to_bytes(self) -> bytes:
        """Data and status word."""
        return self.data + self.sw.to_bytes(2)


@dataclass(slots=True)
class _PoweredSession:
    """What the card forgets without power."""

    application: bytes | None = None
    """AID, or None for the master file."""
    file: ElementaryFile | None = None
    proved: Session = field(default_factory=lambda: Session(0))


class CardSystem:
    """One chip. Not for two threads."""

    def __init__(self, image: CardImage, memory: Memory) -> None:
        self.atr = image.atr
        self._image = image
        self._memory = memory
        self._session = _PoweredSession()
        self._handlers: dict[int, Callable[[Command], Answer]] = {
            0xA4: self._select,
            0xB0: self._read_binary,
            0xB1: self._read_binary_odd,
            0x20: self._verify,
            0x88: self._internal_authenticate,
            0xD6: self._update_binary,
            0xD7: self._update_binary,
        }

    @property
    def state(self) -> CardState:
        """What the card remembers."""
        return self._memory.state

    def reset(self) -> None:
        """Power off, power on or reset: the session is gone, the memory stays."""
        self._session = _PoweredSession()

    def process(self, apdu: bytes) -> Answer:
        """Execute one command APDU."""
        command = commands.parse(apdu)
        if command is None:
            return Answer(b"", WRONG_LENGTH)
        if command.cla != 0x00:
            return Answer(b"", _class_fault(command.cla))
        handler = self._handlers.get(command.ins)
        return Answer(b"", NO_INSTRUCTION) if handler is None else handler(command)

    def _select(self, command: Command) -> Answer:
        if command.p2 not in (0x00, 0x04, 0x0C):
            return Answer(b"", WRONG_P1_P2)
        if command.p1 == 0x04:
            if command.data not in (SPINE_0.lds_aid, SPINE_0.eid_aid):
                return Answer(b"", NOT_FOUND)
            self._session.application, self._session.file = command.data, None
            return _file_information(command, tlv.encode(0x6F, tlv.encode(0x84, command.data)))
        if command.p1 not in (0x00, 0x02):
            return Answer(b"", WRONG_P1_P2)
        if command.p1 == 0x00 and command.data in (b"", SPINE_0.master_file):
            self._session.application, self._session.file = None, None
            return _file_information(command, tlv.encode(0x62, tlv.encode(0x83, SPINE_0.master_file)))
        if len(command.data) != 2:
            return Answer(b"", WRONG_LENGTH)
        file = next((file for file in self._files() if file.fid == int.from_bytes(command.data)), None)
        if file is None:
            return Answer(b"", NOT_FOUND)
        self._session.file = file
        size = tlv.encode(0x80, len(file.content).to_bytes(2))
        return _file_information(command, tlv.encode(0x62, size + tlv.encode(0x83, command.data)))

    def _read_binary(self, command: Command) -> Answer:
        if command.le is None or command.data:
            return Answer(b"", WRONG_LENGTH)
        offset = command.p1 << 8 | command.p2
        if command.p1 & 0x80:
            if not self._select_short(command.p1 & 0x7F):
                return Answer(b"", NOT_FOUND)
            offset = command.p2
        return self._read(offset, command.le)

    def _read_binary_odd(self, command: Command) -> Answer:
        """READ BINARY with the offset in a data object, for files beyond 7FFF (ISO/IEC 7816-4 clause 11.3.3)."""
        if command.le is None or command.p1:
            return Answer(b"", WRONG_LENGTH if command.le is None else WRONG_P1_P2)
        if command.p2 and not self._select_short(command.p2):
            return Answer(b"", NOT_FOUND)
        head, offset = command.data[:2], command.data[2:]
        if not 1 <= len(offset) <= 4 or head != bytes((0x54, len(offset))):
            return Answer(b"", WRONG_DATA)
        answer = self._read(int.from_bytes(offset), max(1, min(command.le, MAX_ANSWER_BYTES) - 4))
        return answer._replace(data=tlv.encode(0x53, answer.data)) if answer.data else answer

    def _read(self, offset: int, le: int) -> Answer:
        file = self._session.file
        if file is None:
            return Answer(b"", NO_CURRENT_FILE)
        if offset >= len(file.content):
            return Answer(b"", WRONG_OFFSET)
        data = file.content[offset : offset + min(le, MAX_ANSWER_BYTES)]
        wanted_all = le in (256, 65_536)
        return Answer(data, OK if len(data) == le or wanted_all or le > MAX_ANSWER_BYTES else END_OF_FILE)

    def _update_binary(self, command: Command) -> Answer:
        """Nothing on this card is writable after personalisation."""
        if command.p1 & 0x80 and not self._select_short(command.p1 & 0x7F):
            return Answer(b"", NOT_FOUND)
        return Answer(b"", NO_CURRENT_FILE if self._session.file is None else SECURITY_STATUS)

    def _verify(self, command: Command) -> Answer:
        """PIN1, reference 81 of the eID application: eight bytes, six to eight digits padded with FF."""
        if command.p1:
            return Answer(b"", WRONG_P1_P2)
        if command.p2 != 0x81 or self._session.application != SPINE_0.eid_aid:
            return Answer(b"", NO_REFERENCE)
        tries = self.state.pin1_tries
        if tries == 0:
            return Answer(b"", BLOCKED)
        if not command.data:
            return Answer(b"", OK if Session.PIN1 in self._session.proved else 0x63C0 | tries)
        digits = _pin_digits(command.data)
        if digits is None:
            # a malformed block is no guess: refusing it costs no try
            return Answer(b"", WRONG_LENGTH if len(command.data) != PIN_BLOCK_BYTES else WRONG_DATA)
        # the try is spent before the comparison, so that pulling the card cannot win it back
        self._memory.commit(replace(self.state, pin1_tries=tries - 1))
        if digits != self._image.pin1:
            self._session.proved &= ~Session.PIN1
            return Answer(b"", 0x63C0 | (tries - 1))
        self._memory.commit(replace(self.state, pin1_tries=PIN1_TRIES))
        self._session.proved |= Session.PIN1
        return Answer(b"", OK)

    def _internal_authenticate(self, command: Command) -> Answer:
        """The verdict by key 03, which signs nothing else."""
        if self._session.application != SPINE_0.eid_aid:
            return Answer(b"", CONDITIONS)
        if command.p1 or command.p2 != SPINE_0.card_key_reference:
            return Answer(b"", NO_REFERENCE if not command.p1 else WRONG_P1_P2)
        if len(command.data) != CHALLENGE_BYTES or command.le is None:
            return Answer(b"", WRONG_LENGTH)
        self._memory.commit(replace(self.state, verdicts=(self.state.verdicts + 1) % (1 << 32)))
        status = self._status().to_bytes()
        der = self._image.card_key.sign(verdict_digest_input(command.data, status), ec.ECDSA(SHA256()))
        r, s = utils.decode_dss_signature(der)
        return Answer(CardVerdict(status, r.to_bytes(32) + s.to_bytes(32)).to_bytes(), OK, signatures=1)

    def _status(self) -> Status:
        return Status(
            interface=Interface.CONTACT,
            session=self._session.proved,
            reference=Reference(0),
            pin1_tries=self.state.pin1_tries,
            pin2_tries=None,
            puk_tries=None,
            finger_96_tries=None,
            finger_97_tries=None,
            verdict_counter=self.state.verdicts,
            journal_state=JournalState.IDLE,
            journal_containers=0,
            journal_counter=0,
            journal_transaction=bytes(16),
        )

    def _files(self) -> Sequence[ElementaryFile]:
        """The files of what is selected: an application's are out of reach from outside it."""
        match self._session.application:
            case SPINE_0.lds_aid:
                return self._image.lds
            case SPINE_0.eid_aid:
                return self._image.eid
            case _:
                return self._image.master

    def _select_short(self, sfi: int) -> bool:
        file = next((file for file in self._files() if file.sfi == sfi), None)
        if file is not None:
            self._session.file = file
        return file is not None


def _class_fault(cla: int) -> int:
    """Why a class byte other than 00 is refused (ISO/IEC 7816-4 clause 5.4.1)."""
    if cla & 0x80:
        return NO_CLASS
    if cla & 0x0C or cla & 0x60 == 0x60:
        return NO_SECURE_MESSAGING
    return NO_CHAINING if cla & 0x10 else NO_LOGICAL_CHANNEL


def _file_information(command: Command, information: bytes) -> Answer:
    return Answer(b"" if command.p2 == 0x0C or command.le is None else information, OK)


def _pin_digits(block: bytes) -> bytes | None:
    """The digits in a PIN block, or None if it is not one."""
    digits = block.rstrip(b"\xff")
    if len(block) != PIN_BLOCK_BYTES or not 6 <= len(digits) <= PIN_BLOCK_BYTES or not digits.isdigit():
        return None
    return digits
