"""Specimens in place of real forms: `python provisioning/stand_in_forms.py DIR` makes one for each form that DIR/catalogue.json
names, and writes their sizes and hashes into it.

The same catalogue gives the same bytes. Whoever has the administration's own files puts them there instead (docs/forms.md).
"""

import argparse
import hashlib
import json
import textwrap
from pathlib import Path
from typing import Any

A4 = (595, 842)  # points
LEFT = 60
ENCODING = "cp1252"  # of PDF's WinAnsiEncoding


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a specimen for each form that DIR/catalogue.json names.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder = parser.parse_args().folder
    file = folder / "catalogue.json"
    catalogue = json.loads(file.read_text("utf-8"))
    for form in catalogue["forms"]:
        data = specimen(form)
        (folder / form["file"]).write_bytes(data)
        form |= {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    file.write_text(json.dumps(catalogue, indent=1, ensure_ascii=False) + "\n", "utf-8")


def specimen(form: dict[str, Any]) -> bytes:
    """One page of A4 that says which form it stands for."""
    lines = [
        (24, "SPÉCIMEN"),
        (13, f"Spécimen – modèle de remplacement du formulaire cerfa n° {form['cerfa']}"),
        (0, ""),
        *((16, line) for line in textwrap.wrap(form["title"], 52)),
        (0, ""),
        *((11, line) for line in textwrap.wrap(form["warning"] or "", 80)),
        (0, ""),
        (11, "Cette page n'a aucune valeur : aucune administration ne l'accepte."),
        (11, "Elle montre seulement que la borne imprime sans Internet."),
        (11, f"Exemplaires à imprimer : {form['copies']}"),
        (11, "Le vrai formulaire se trouve ici :"),
        *((9, line) for line in textwrap.wrap(form["source"], 90)),
    ]
    return pdf(content(lines))


def content(lines: list[tuple[int, str]]) -> bytes:
    """A page's drawing: a frame, and lines of text, each with its size in points; 0 leaves a gap."""
    width, height = A4
    drawn = [f"0.6 G {LEFT - 20} 60 {width - 2 * (LEFT - 20)} {height - 120} re S 0 g"]
    y = height - 120
    for size, text in lines:
        if text:
            escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
            drawn.append(f"BT /F1 {size} Tf {LEFT} {y} Td ({escaped}) Tj ET")
        y -= size + 10
    return "\n".join(drawn).encode(ENCODING)


def pdf(page: bytes) -> bytes:
    """A document of one page (ISO 32000-1), whose font every printer has."""
    width, height = A4
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R /Lang (fr-FR) >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
        % (width, height),
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    )
    data = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(data))
    return data + b"xref\n0 %d\n0000000000 65535 f \n%b" % (len(objects) + 1, table) + trailer


if __name__ == "__main__":
    main()
