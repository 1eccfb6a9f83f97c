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
# Of any service, one or many: no word that agrees with its name.
SERVICE_WORDS: Final[Mapping[ServiceWord, str]] = {
    "degraded": "seulement en partie",
    "down": "hors service",
    "maintenance": "en maintenance",
}

# What the booth does by itself, by the remedy's name; the same name may be on several ladders. Masculine: the outcomes agree.
REMEDIES: Final[Mapping[str, str]] = {
    "bounce-link": "redémarrage de la liaison réseau",
    "enable-queue": "redémarrage de la file d'impression",
    "end-holders": "arrêt des programmes en trop",
    "free-disk": "nettoyage de la carte mémoire",
    "purge-spool": "vidage de la file d'impression",
    "radio-cycle": "redémarrage du Wi-Fi",
    "reboot": "redémarrage de la borne",
    "recover": "redémarrage de l'imprimante",
    "reload-driver": "rechargement du pilote réseau",
    "renew-address": "renouvellement de l'adresse réseau",
    "reopen": "rétablissement de la liaison",
    "restart-cups": "redémarrage du service d'impression",
    "restart-kiosk": "redémarrage de l'application",
    "restart-network": "redémarrage du réseau",
    "restart-units": "redémarrage de programmes",
    "try-again": "nouvel essai",
    "usb-authorize": "débranchement et rebranchement par logiciel",
    "usb-power": "redémarrage de l'alimentation USB",
    "usb-rebind": "rechargement du pilote de l'appareil",
    "usb-reset": "redémarrage de la prise USB",
}
OUTCOMES: Final[Mapping[str, str]] = {
    "running": "en cours",
    "cured": "réussi",
    "failed": "sans effet",
    "timed-out": "sans réponse",
    "refused": "impossible",
    "interrupted": "interrompu",
    "rebooted": "fait",
    "relapsed": "réussi, mais la panne est revenue",
}

_DAYS: Final = ("lun.", "mar.", "mer.", "jeu.", "ven.", "sam.", "dim.")


def french_date(moment: datetime.datetime) -> str:
    """Such as « mar. 06/10/2026 14:32 »; its words stay together."""
    return f"{_DAYS[moment.weekday()]}\u00a0{moment:%d/%m/%Y}\u00a0{moment:%H:%M}"
