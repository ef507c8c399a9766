"""The card office of the simulated registry: every card of `tools.simulators.issuer` is in its register."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

from edge_agent.cards import passive_auth, verdict
from edge_agent.cards.errors import CardDataError, CardExpiredError, CardNotAuthenticError, CardNotGenuineError
from edge_agent.cards.trust import TrustList, chain_fault, load_certificate
from tools.simulators import issuer
from tools.simulators.registry.evidence import Citizen, Proofs
from wire.loa import Evidence

_REMEMBERED = 256


class SimulatedCardOffice:
    """Implements `evidence.CardOffice` over the simulated issuer: its seeds are the population."""

    def __init__(self, trust: TrustList) -> None:
        """`trust` is the issuer's own list of roots."""
        self._trust = trust

    def citizen(self, card_certificate: bytes, *, at_s: int) -> Citizen | None:
        """As `evidence.CardOffice.citizen`."""
        try:
            certificate = load_certificate(card_certificate)
            fault = chain_fault(certificate, self._trust.card_key_authorities, at_s)
            if fault is not None:
                raise CardNotGenuineError(f"card certificate: {fault}")
            document_number = verdict.document_number(card_certificate)
        except CardDataError as exc:
            raise CardNotGenuineError("card certificate: malformed") from exc
        seed = issuer.seed_of(document_number)
        if seed is None:
            return None
        return Citizen(document_number, issuer.Citizen.from_seed(seed).national_number, issuer.EXPIRY)

    def prove(self, citizen: Citizen, proofs: Proofs, *, at_s: int) -> Evidence:
        """As `evidence.CardOffice.prove`.

        The card's own status may speak of PIN and finger; each of those bits needs a reader that attests too, and no
        reader does yet, so none of them is given (sealed session 2.1).
        """
        try:
            authentic = passive_auth.authenticate_hashes(proofs.security_object, proofs.group_hashes, self._trust, at_s)
        except CardDataError as exc:
            raise CardNotAuthenticError("malformed") from exc
        self._check_continuity(citizen, authentic)
        try:
            status = verdict.check(
                verdict.CardVerdict(proofs.verdict_status, proofs.verdict_signature),
                proofs.challenge,
                proofs.card_certificate,
                self._trust,
                at_s,
                expected_document=citizen.document_number,
            )
        except CardDataError as exc:
            raise CardNotGenuineError("verdict: malformed") from exc
        proved = Evidence.PASSIVE_AUTH | Evidence.CARD_SIGNED
        return proved | Evidence.CONTACT if status.interface is verdict.Interface.CONTACT else proved

    @staticmethod
    def _check_continuity(citizen: Citizen, authentic: passive_auth.PassiveAuthentication) -> None:
        """The data that was read is what the register had written into the card that signs, and into no other."""
        seed = issuer.seed_of(citizen.document_number)
        if seed is None:
            raise CardNotGenuineError("not in the register")
        read = authentic.group_hashes
        if read == _group_hashes(seed, None, authentic.hash_algorithm, tuple(read)):
            return
        if read == _group_hashes(seed, issuer.Defect.EXPIRED, authentic.hash_algorithm, tuple(read)):
            raise CardExpiredError("the citizen's earlier card")
        raise CardNotGenuineError("data and chip are of two cards")


@lru_cache(maxsize=_REMEMBERED)
def _group_hashes(
    seed: int, defect: issuer.Defect | None, algorithm: str, numbers: tuple[int, ...]
) -> Mapping[int, bytes]:
    groups = issuer.personalise(seed, defect).groups
    return {number: hashlib.new(algorithm, groups[number]).digest() for number in numbers if number in groups}
