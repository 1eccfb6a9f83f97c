"""What the shopkeeper can do herself about a finding, one step after the other."""

from collections.abc import Mapping
from typing import Final

_BOX: Final = (
    "Regardez votre box\u00a0: elle doit être allumée.",
    "Éteignez la box, attendez 10\u00a0secondes, rallumez-la.",
    "Attendez 5\u00a0minutes, puis regardez le voyant de la borne.",
)
_TRAY: Final = ("Ouvrez le bac de l'imprimante de documents.", "Mettez du papier A4 et refermez le bac.")
_TONER: Final = (
    "Prenez la cartouche neuve livrée pour la borne.",
    "Ouvrez l'imprimante, changez la cartouche, refermez.",
    "Pas de cartouche neuve\u00a0? Appelez.",
)
_CLOSE: Final = ("Fermez bien le capot et les portes de l'imprimante, jusqu'au déclic.",)
_SORTED: Final = ("Prenez les feuilles qui sont dans le bac de sortie et détruisez-les.",)

# By kind and code, for what she fixes, and for what may be her box.
_STEPS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("audio", "no-device"): (
        "Vérifiez que le micro et le haut-parleur sont branchés.", "Débranchez puis rebranchez leurs câbles, aux deux bouts.",
    ),
    ("audio", "no-microphone"): (
        "Vérifiez que le micro est branché.", "Vérifiez que son bouton n'est pas sur «\u00a0muet\u00a0».",
    ),
    ("audio", "no-speaker"): ("Vérifiez que le haut-parleur est branché.", "Montez le volume."),
    ("camera", "no-device"): (  # its light is out while nobody is filmed
        "Vérifiez que la caméra est branchée.", "Débranchez puis rebranchez le câble de la caméra, aux deux bouts.",
    ),
    ("camera", "black"): ("Enlevez ce qui couvre l'objectif de la caméra.", "Essuyez-le avec un chiffon doux."),
    ("document-printer", "media-empty"): _TRAY,
    ("document-printer", "media-needed"): _TRAY,
    ("document-printer", "media-low"): _TRAY,
    ("document-printer", "media-jam"): (
        "Éteignez l'imprimante de documents.",
        "Ouvrez le capot et tirez doucement la feuille coincée. Détruisez-la.",
        "Refermez, puis rallumez.",
    ),
    ("document-printer", "cover-open"): _CLOSE,
    ("document-printer", "door-open"): _CLOSE,
    ("document-printer", "input-tray-missing"): ("Remettez le bac à papier de l'imprimante, poussez-le jusqu'au fond.",),
    ("document-printer", "output-tray-missing"): ("Remettez le bac de sortie de l'imprimante.",),
    ("document-printer", "output-area-full"): _SORTED,
    ("document-printer", "output-area-almost-full"): _SORTED,
    ("document-printer", "toner-low"): _TONER,
    ("document-printer", "toner-empty"): _TONER,
    ("document-printer", "marker-supply-low"): _TONER,
    ("document-printer", "marker-supply-empty"): _TONER,
    ("document-printer", "marker-supply-missing"): (
        "Ouvrez l'imprimante de documents.", "Remettez la cartouche, jusqu'au déclic, et refermez.",
    ),
    ("document-printer", "offline"): ("Vérifiez que l'imprimante de documents est allumée.", "Vérifiez son câble."),
    ("network", "no-carrier"): (
        "Vérifiez que le câble réseau est bien enfoncé, côté borne et côté box.", "Vérifiez que votre box est allumée.",
    ),
    ("network", "no-address"): _BOX,
    ("network", "gateway-unreachable"): _BOX,
    ("network", "dns-failure"): _BOX,
    ("network", "captive-portal"): (
        "Votre accès à Internet demande une connexion.",
        "Ouvrez une page Internet sur un appareil du même réseau et connectez-vous, ou appelez votre fournisseur.",
    ),
    ("network", "weak-signal"): ("Rapprochez la box de la borne, ou écartez ce qui est entre elles.",),
    ("receipt-printer", "media-empty"): (
        "Ouvrez le capot de l'imprimante à tickets.",
        "Mettez un rouleau neuf, un peu de papier dépassant, et refermez.",
    ),
    ("receipt-printer", "media-low"): ("Préparez un rouleau neuf pour l'imprimante à tickets.",),
    ("receipt-printer", "cover-open"): ("Fermez le capot de l'imprimante à tickets, jusqu'au déclic.",),
    ("receipt-printer", "offline"): ("Appuyez une fois sur le bouton de l'imprimante à tickets.",),
    ("scanner", "jammed"): (
        "Ouvrez le scanner et retirez la feuille coincée. Rendez-la ou détruisez-la.", "Refermez le scanner.",
    ),
    ("scanner", "cover-open"): ("Fermez le capot du scanner.",),
}  # fmt: skip
# For every other kind: what is meant is named by its noun.
_ANY: Final[Mapping[str, tuple[str, ...]]] = {
    "no-device": (
        "Vérifiez {noun}\u00a0: son voyant est-il allumé\u00a0?",
        "Débranchez puis rebranchez les câbles {of_noun}, aux deux bouts.",
    ),
    "not-responding": ("Éteignez {noun}, attendez 10\u00a0secondes, puis rallumez.",),
}


def steps(kind: str, code: str, noun: str) -> tuple[str, ...] | None:
    """What she does about it; None where there is nothing. `noun` is French, with its article: "le scanner"."""
    own = _STEPS.get((kind, code))
    if own is not None:
        return own
    general = _ANY.get(code)
    return None if general is None else tuple(step.format(noun=noun, of_noun=_of(noun)) for step in general)


def _of(noun: str) -> str:
    article, _, name = noun.partition(" ")
    return f"du {name}" if article == "le" else f"de {noun}"
