"""The slip that shows whether a receipt printer is set up well: paper, accents, cutter."""

from agent.ticket.paragraphs import EMPTY, Paragraph


def slip(booth_id: str | None = None) -> list[Paragraph]:
    """Short, and readable on the narrowest paper."""
    return [
        Paragraph(f"Borne {booth_id}" if booth_id else "Borne", "strong"),
        Paragraph("Essai d'impression"),
        EMPTY,
        Paragraph("éèêëàâäîïôöùûüÿç ÉÈÀÇ"),
        Paragraph("œ Œ æ Æ « » € – — … ’ “ ”"),
        Paragraph("Si ces lignes se lisent bien, l'imprimante est bien réglée."),
    ]
