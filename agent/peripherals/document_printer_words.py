"""What the document printer is called, what is measured of it, and what its findings mean."""

from typing import Final

from agent.contract.alarm import Text
from agent.rules.declaration import Fact, FindingKind

NOUN: Final = Text("l'imprimante de documents", "the document printer")

FACTS: Final = (
    Fact("scheduler", "boolean", "the print server answers"),
    Fact("queue", "boolean", "the print server knows the queue; null while it does not answer"),
    Fact("trouble", "string", "why there was no answer, or none about the queue; null with one"),
    Fact("present", "boolean", "the printer is plugged in, by the kernel; null for one that is not on USB, or in doubt"),
    Fact("state", "string", "the queue: idle, processing or stopped"),
    Fact("accepting", "boolean", "the queue takes jobs; null while a session or a day has had its pages"),
    Fact("reasons", "string", "printer-state-reasons as the queue states them, with commas between; null for none"),
    Fact("stale_reasons", "string", "those of them from before the newest job that succeeded: they outlived their cause"),
    Fact("queued_jobs", "integer", "jobs that are not done"),
    Fact("job_stalled_s", "integer", "how long the current job has stood still; null without one", "s"),
    Fact(
        "toner_lowest_pct", "integer", "level of the toner or ink that ends first; null without percentages", "%", telemetry=True
    ),
    Fact("toner_lowest", "string", "which toner or ink that is, in the printer's words"),
)

FINDINGS: Final = (
    FindingKind(
        "no-device", "fault", "shopkeeper",
        Text("L'imprimante de documents n'est pas branchée : vérifiez le câble.", "The document printer is not plugged in: check its cable."),
    ),
    FindingKind(
        "media-empty", "fault", "shopkeeper",
        Text("Il n'y a plus de papier dans l'imprimante de documents.", "The document printer is out of paper."), part="paper A4",
    ),
    FindingKind(
        "media-needed", "fault", "shopkeeper",
        Text("L'imprimante demande du papier : remplissez son bac.", "The document printer asks for paper: fill its tray."), part="paper A4",
    ),
    FindingKind(
        "media-low", "warning", "shopkeeper",
        Text("Il n'y a presque plus de papier dans l'imprimante de documents.", "The document printer is low on paper."), part="paper A4",
    ),
    FindingKind(
        "media-jam", "fault", "shopkeeper",
        Text("Bourrage papier dans l'imprimante de documents.", "Paper is jammed in the document printer."),
    ),
    FindingKind(
        "cover-open", "fault", "shopkeeper",
        Text("Le capot de l'imprimante de documents est ouvert.", "The cover of the document printer is open."),
    ),
    FindingKind(
        "door-open", "fault", "shopkeeper",
        Text("Une porte de l'imprimante de documents est ouverte.", "A door of the document printer is open."),
    ),
    FindingKind(
        "input-tray-missing", "fault", "shopkeeper",
        Text("Le bac à papier de l'imprimante de documents manque.", "The paper tray of the document printer is missing."),
    ),
    FindingKind(
        "output-tray-missing", "fault", "shopkeeper",
        Text("Le bac de sortie de l'imprimante de documents manque.", "The output tray of the document printer is missing."),
    ),
    FindingKind(
        "output-area-full", "fault", "shopkeeper",
        Text("Le bac de sortie de l'imprimante est plein : videz-le.", "The printer's output tray is full: empty it."),
    ),
    FindingKind(
        "output-area-almost-full", "warning", "shopkeeper",
        Text("Le bac de sortie de l'imprimante est presque plein : videz-le.", "The printer's output tray is nearly full: empty it."),
    ),
    FindingKind(
        "toner-low", "warning", "shopkeeper",
        Text("Il n'y a presque plus de toner dans l'imprimante de documents.", "The document printer is low on toner."), part="toner",
    ),
    FindingKind(
        "toner-empty", "fault", "shopkeeper",
        Text("Il n'y a plus de toner dans l'imprimante de documents.", "The document printer is out of toner."), part="toner",
    ),
    FindingKind(
        "marker-supply-low", "warning", "shopkeeper",
        Text("Il n'y a presque plus d'encre ou de toner dans l'imprimante.", "The document printer is low on ink or toner."), part="toner",
    ),
    FindingKind(
        "marker-supply-empty", "fault", "shopkeeper",
        Text("Il n'y a plus d'encre ou de toner dans l'imprimante de documents.", "The document printer is out of ink or toner."), part="toner",
    ),
    FindingKind(
        "marker-supply-missing", "fault", "shopkeeper",
        Text("Il manque une cartouche dans l'imprimante de documents.", "A cartridge is missing in the document printer."), part="toner",
    ),
    FindingKind(
        "marker-waste-almost-full", "warning", "technician",
        Text("Le bac de toner usagé est presque plein.", "The waste toner box is nearly full."), part="waste toner box",
    ),
    FindingKind(
        "marker-waste-full", "fault", "technician",
        Text("Le bac de toner usagé est plein.", "The waste toner box is full."), part="waste toner box",
    ),
    FindingKind(
        "developer-low", "warning", "technician",
        Text("Le développeur de l'imprimante s'épuise.", "The printer's developer runs low."), part="developer",
    ),
    FindingKind(
        "developer-empty", "fault", "technician",
        Text("Le développeur de l'imprimante est épuisé.", "The printer's developer has run out."), part="developer",
    ),
    FindingKind(
        "fuser-over-temp", "warning", "auto",
        Text("Le four de l'imprimante de documents refroidit.", "The printer's fuser is cooling down."),
        raise_after_s=10.0,
    ),
    FindingKind(
        "fuser-under-temp", "warning", "auto",
        Text("Le four de l'imprimante de documents chauffe.", "The printer's fuser is warming up."),
        raise_after_s=120.0,
    ),
    FindingKind(
        "opc-near-eol", "warning", "technician",
        Text("Le tambour de l'imprimante est bientôt à changer.", "The printer's drum is near the end of its life."), part="drum",
    ),
    FindingKind(
        "opc-life-over", "fault", "technician",
        Text("Le tambour de l'imprimante est à changer.", "The printer's drum has to be replaced."), part="drum",
    ),
    FindingKind(
        "spool-area-full", "fault", "auto",
        Text("La mémoire d'impression est pleine.", "The spool area is full."),
    ),
    FindingKind(
        "interpreter-resource-unavailable", "warning", "remote",
        Text("L'imprimante n'a pas pu traiter un document.", "The printer lacks a resource to print a document."),
    ),
    FindingKind(
        "timed-out", "warning", "auto",
        Text("L'imprimante de documents met trop de temps à répondre.", "The document printer takes too long to answer its server."),
        raise_after_s=30.0,
    ),
    FindingKind(
        "offline", "warning", "shopkeeper",
        Text("L'imprimante semble éteinte : vérifiez son interrupteur.", "The printer seems to be off: check its switch."),
        raise_after_s=30.0,  # by SNMP, which is often wrong for a moment
    ),
    FindingKind(
        "other", "warning", "technician",
        Text("L'imprimante de documents signale un problème.", "The document printer reports a problem."),
    ),
    FindingKind(
        "queue-stopped", "fault", "auto",
        Text("La file d'impression est arrêtée.", "The print queue is stopped."),
    ),
    FindingKind(
        "job-stuck", "fault", "auto",
        Text("Une impression est bloquée.", "A print job is stuck."),
    ),
    FindingKind(
        "queue-missing", "fault", "remote",
        Text("L'imprimante de documents n'est pas installée.", "The print server knows no such queue."),
    ),
    FindingKind(
        "access-denied", "warning", "remote",
        Text(
            "La borne ne peut pas effacer les documents en attente.",
            "The booth cannot delete documents that wait.",
        ),
    ),
    FindingKind(
        "scheduler-down", "fault", "auto",
        Text("Le service d'impression ne répond pas.", "The print server does not answer."),
        raise_after_s=5.0,  # a restart takes a few seconds
    ),
)  # fmt: skip
