"""Keeps the ledger of a scenario: acknowledgements and receipts of any client in, a verdict out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.testing.ledger import Ledger, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from client_driver import Ack, Receipt


def judge(sent: int, acks: Iterable[Ack], receipts: Iterable[Receipt]) -> Verdict:
    """What became of messages 0 … sent-1. Raises LedgerError when an offset held two different messages."""
    ledger = Ledger()
    for _ in range(sent):
        ledger.send()
    for ack in acks:
        ledger.acknowledge(ack.number, ack.partition, ack.offset, 0)
    for receipt in receipts:
        ledger.receive(receipt.number, receipt.partition, receipt.offset)
    return ledger.judge()
