"""Runs in the virtual booth: a receipt printer on the network, at port 9100 of this machine, with which all is well: `desk.py`.

Unlike one of the kernel's own (dummy_hcd) it does nothing while nobody asks: a hurried booth's clock may jump.
"""

import asyncio

from agent.simulator.receipt_printer import ReceiptPrinter


async def main() -> None:
    await ReceiptPrinter().listen(9100)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
