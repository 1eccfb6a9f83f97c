"""French words of the ticket for what has a name elsewhere: services, remedies, what became of them, dates."""

import datetime
from collections.abc import Mapping
from typing import Final

from agent.contract.words import ServiceWord

SERVICES: Final[Mapping[str, str]] = {
    "web": "Démarches sur Internet",
    "forms": "Formulaires à imprimer",
    "print": "Impression",
    "scan": "Numérisation",
    "visio": "Rendez-vous en vidéo",
}
SERVICE_WORDS: Final[Mapping[ServiceWord, str]] = {
    "ok": "marche",
    "degraded": "marche en partie",
    "down": "ne marche pas",
    "maintenance": "en maintenance",
    "unknown": "pas encore contrôlé",
}

# What the booth does by itself, by the remedy's name; the same name may be on several ladders.
REMEDIES: Final[Mapping[str, str]] = {
    "bounce-link": "liaison réseau coupée et rétablie",
    "enable-queue": "file d'impression relancée",
    "end-holders": "programmes en trop arrêtés",
    "free-disk": "place libérée sur la carte mémoire",
    "purge-spool": "file d'impression vidée",
    "radio-cycle": "Wi-Fi coupé et rétabli",
    "reboot": "borne redémarrée",
    "recover": "imprimante remise en marche",
    "reload-driver": "pilote du réseau rechargé",
    "renew-address": "adresse réseau redemandée",
    "reopen": "liaison rouverte",
    "restart-cups": "service d'impression redémarré",
    "restart-kiosk": "application redémarrée",
    "restart-network": "réseau redémarré",
    "restart-units": "programmes redémarrés",
    "try-again": "nouvel essai",
    "usb-authorize": "appareil débranché et rebranché par logiciel",
    "usb-power": "alimentation USB coupée et rétablie",
    "usb-rebind": "pilote de l'appareil rechargé",
    "usb-reset": "prise USB réinitialisée",
}
OUTCOMES: Final[Mapping[str, str]] = {
    "running": "en cours",
    "cured": "réussi",
    "failed": "sans effet",
    "timed-out": "sans réponse",
    "refused": "pas possible",
    "interrupted": "interrompu",
    "rebooted": "fait",
    "relapsed": "réussi, puis revenu",
}

_DAYS: Final = ("lun.", "mar.", "mer.", "jeu.", "ven.", "sam.", "dim.")


def french_date(moment: datetime.datetime) -> str:
    """Such as « mar. 06/10/2026 14:32 »; its words stay together."""
    return f"{_DAYS[moment.weekday()]}\u00a0{moment:%d/%m/%Y}\u00a0{moment:%H:%M}"
