"""The emulated receipt printer prints what a driver that is not ours sends it."""

import asyncio
import sys

from agent.simulator.receipt_printer import ReceiptPrinter

# In a process of its own: importing escpos leaves a temporary folder behind and configures logging.
DRIVER = """
import sys
from escpos.printer import Network
printer = Network("127.0.0.1", int(sys.argv[1]), timeout=5)
{commands}
printer.close()
"""


async def drive(printer: ReceiptPrinter, commands: str) -> str:
    """What the driver printed itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DRIVER.format(commands=commands), str(printer.port),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode().strip()


async def printed(printer: ReceiptPrinter, text: str) -> None:
    async with asyncio.timeout(10):
        while text not in printer.paper:
            await asyncio.sleep(0.01)


async def test_accents_and_the_euro_sign_come_out_in_code_page_858() -> None:
    printer = ReceiptPrinter()
    await printer.listen()
    try:
        text = "Été à Mamers : 3 € payés, çà et là, ÀÉÈÊÇÙ"
        await drive(printer, f"printer.charcode('CP858'); printer.text({text!r} + '\\n'); printer.cut()")
        await printed(printer, text)
        assert printer.paper == f"{text}\n", "and the commands around them print nothing"
    finally:
        await printer.close()


async def test_what_the_driver_sets_is_no_text() -> None:
    printer = ReceiptPrinter()
    await printer.listen()
    try:
        await drive(
            printer, "printer.set(align='center', bold=True, double_height=True); printer.text('un\\n'); printer.cut(mode='PART')"
        )
        await drive(printer, "printer.hw('INIT'); printer.text('deux\\n'); printer.cut(feed=False)")
        await printed(printer, "deux\n")
        assert "".join(printer.paper.split()) == "undeux"
    finally:
        await printer.close()


async def test_the_driver_understands_the_paper_status_and_what_it_sends_without_paper_waits_for_some() -> None:
    printer = ReceiptPrinter()
    await printer.listen()
    try:
        # python-escpos: 2 adequate, 1 low, 0 none.
        for paper, says in (("plenty", "2"), ("near-end", "1"), ("out", "0")):
            printer.change(paper=paper)
            assert await drive(printer, "print(printer.paper_status())") == says
        await drive(printer, "printer.text('kept\\n')")
        assert printer.paper == ""
        printer.change(paper="plenty")
        assert await drive(printer, "print(printer.is_online()); printer.text('found\\n')") == "True"
        await printed(printer, "found\n")
        assert printer.paper == "kept\nfound\n"
    finally:
        await printer.close()
