"""The words by which people end, take up again, or ask about messages; words of emergency; what machines answer.

Data for ``recogniser.py``, which says how they are compared. A language is its ISO 639-1 code; "" means that the
word says nothing about the language, as STOP, which people of all languages are told to send. The English words of
``STOP`` are those of 47 CFR 64.1200(a)(10) and of the lists that carriers publish; none of them may be taken out.
The others were collected from carriers' and aggregators' lists and want a native speaker's eye: an operator adds
words to them, never less.
"""

from __future__ import annotations

from typing import Final

STOP: Final[dict[str, tuple[str, ...]]] = {
    "": ("stop", "stop all", "stopall", "opt out", "optout"),
    "en": ("unsubscribe", "cancel", "end", "quit", "revoke", "remove", "remove me", "unsubscribe me"),
    "es": ("alto", "parar", "pare", "baja", "detener", "no más", "cancelar"),
    "fr": ("arret", "arrêter", "arrêtez", "désabonner"),
    "pt": ("sair", "cancelar inscrição"),
    "de": ("stopp", "abmelden", "abbestellen"),
    "nl": ("afmelden",),
    "it": ("basta", "annulla"),
    "pl": ("wypisz",),
    "tr": ("iptal", "ret", "dur"),
    "ru": ("стоп", "отписка", "отписаться"),
    "uk": ("відписка", "відписатися"),
    "ar": ("توقف", "أوقف", "إيقاف", "إلغاء", "إلغاء الاشتراك"),
    "fa": ("لغو",),
    "ur": ("بند",),
    "hi": ("बंद", "बंद करो", "रोकें"),
    "zh": ("停止", "退订", "退訂", "td"),
    "ja": ("配信停止", "停止して"),
    "ko": ("수신거부", "거부"),
    "vi": ("dừng", "hủy", "huỷ"),
    "tl": ("tigil",),
    "ht": ("kanpe", "sispann"),
    "sw": ("acha", "simama"),
    "so": ("jooji",),
}

START: Final[dict[str, tuple[str, ...]]] = {
    "": ("start", "unstop", "opt in", "optin"),
    "en": ("subscribe", "resubscribe"),
    "es": ("alta", "iniciar", "reanudar"),
    "fr": ("reprendre", "réabonner"),
    "pt": ("retomar",),
    "de": ("starten", "anmelden"),
    "nl": ("aanmelden",),
    "it": ("riprendi",),
    "ru": ("старт",),
    "ar": ("ابدأ", "اشتراك"),
    "ur": ("شروع",),
    "hi": ("शुरू",),
    "zh": ("开始", "開始", "订阅", "訂閱"),
    "vi": ("bắt đầu",),
    "so": ("bilow",),
}

HELP: Final[dict[str, tuple[str, ...]]] = {
    "en": ("help", "info", "help me"),
    "es": ("ayuda",),
    "fr": ("aide",),
    "pt": ("ajuda",),
    "de": ("hilfe",),
    "nl": ("hulp",),
    "it": ("aiuto",),
    "pl": ("pomoc",),
    "tr": ("yardım",),  # noqa: RUF001
    "ru": ("помощь",),
    "uk": ("допомога",),
    "ar": ("مساعدة",),
    "fa": ("کمک",),
    "ur": ("مدد",),
    "hi": ("मदद",),
    "zh": ("帮助", "幫助"),
    "ja": ("ヘルプ",),
    "ko": ("도움말",),
    "vi": ("trợ giúp",),
    "tl": ("tulong",),
    "ht": ("èd",),
    "sw": ("msaada",),
    "so": ("caawimaad",),
}

# Said beside a word of STOP, START or HELP without changing what it means; up to three of them.
POLITE: Final = (
    "please", "pls", "plz", "now", "thanks", "thank", "you", "thx", "ok", "okay", "hi", "hello", "sir", "madam",
    "por", "favor", "gracias", "ahora", "svp", "merci", "bitte", "danke", "sofort", "alstublieft", "grazie",
    "obrigado", "obrigada", "proszę", "lütfen", "пожалуйста", "спасибо", "من", "فضلك", "شكرا",
)  # fmt: skip

# A wish to get no more, wherever in a text these words stand side by side.
STOP_PHRASES: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "stop texting",
        "stop messaging",
        "stop sending",
        "stop contacting",
        "stop these",
        "stop the texts",
        "stop the messages",
        "stop all texts",
        "stop all messages",
        "stop sms",
        "dont text me",
        "don t text me",
        "do not text me",
        "dont message me",
        "don t message me",
        "do not message me",
        "dont contact me",
        "don t contact me",
        "do not contact me",
        "remove me",
        "take me off",
        "leave me alone",
        "no more messages",
        "no more texts",
        "opt me out",
        "unsubscribe me",
        "unsubscribe from",
        "i want to unsubscribe",
        "i revoke",
        "opt out of",
    ),
    "es": (
        "no me escriban",
        "no me escriba",
        "no me envíen",
        "no me envie más",
        "no quiero recibir",
        "no más mensajes",
        "déjenme en paz",
    ),
    "fr": ("ne m envoyez plus", "plus de messages", "arrêtez de m envoyer", "laissez moi tranquille"),
    "de": ("keine sms mehr", "keine nachrichten mehr", "lasst mich in ruhe"),
    "pt": ("não me envie", "não quero receber", "pare de me enviar"),
}

# Said by somebody who is not the one that was meant.
WRONG_PERSON: Final[dict[str, tuple[str, ...]]] = {
    "en": ("wrong number", "wrong person", "not my number", "you have the wrong", "don t know who this is for"),
    "es": ("número equivocado", "numero incorrecto", "persona equivocada"),
    "fr": ("mauvais numéro", "faux numéro"),
    "de": ("falsche nummer",),
    "pt": ("número errado",),
}

# Words of STOP after which, inside a longer text, marketing waits for a person to read it.
SOFT: Final = (
    "stop", "unsubscribe", "optout", "cancel", "quit", "revoke", "stopp", "abmelden", "abbestellen", "afmelden",
    "cancelar", "désabonner", "стоп", "отписка", "توقف", "إلغاء", "退订", "退訂", "수신거부", "बंद",
)  # fmt: skip

# What handsets answer by themselves, as the whole text: inside a longer one a person may say so.
AUTO_RESPONDER: Final[dict[str, tuple[str, ...]]] = {
    "en": ("i m driving", "im driving", "i am driving", "sorry i m driving", "sorry i am driving"),
    "es": ("estoy conduciendo", "estoy manejando"),
    "fr": ("je conduis", "je suis au volant"),
    "de": ("ich fahre gerade", "ich fahre gerade auto"),
    "pt": ("estou dirigindo", "estou a conduzir"),
}

# The same, wherever in a text. Few: who is taken for a machine gets no word that the text has come.
AUTO_RESPONDER_PHRASES: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "i m driving right now",
        "i m driving now",
        "i m driving at the moment",
        "i m driving with",
        "i m driving i ll",
        "i m currently driving",
        "i am currently driving",
        "while driving turned on",
        "out of office",
        "out of the office",
        "automatic reply",
        "automated reply",
        "automatic response",
        "automated response",
        "auto reply",
        "autoreply",
    ),
    "es": ("respuesta automática", "fuera de la oficina", "estoy conduciendo ahora"),
    "fr": ("réponse automatique", "absent du bureau", "je conduis actuellement"),
    "de": ("automatische antwort", "automatische nachricht", "abwesenheitsnotiz", "nicht im büro"),
    "pt": ("resposta automática", "fora do escritório", "estou dirigindo agora"),
}

# Somebody may be in danger: the answer is the emergency line, whatever else the text says.
EMERGENCY: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "chest pain",
        "can t breathe",
        "cant breathe",
        "cannot breathe",
        "can not breathe",
        "can t breath",
        "cant breath",
        "trouble breathing",
        "suicide",
        "suicidal",
        "kill myself",
        "end my life",
        "want to die",
        "overdose",
        "overdosed",
        "heart attack",
        "having a stroke",
        "severe bleeding",
        "bleeding heavily",
        "unconscious",
        "not breathing",
        "anaphylaxis",
        "throat is closing",
    ),
    "es": (
        "dolor de pecho",
        "dolor en el pecho",
        "no puedo respirar",
        "suicidio",
        "suicidarme",
        "matarme",
        "sobredosis",
        "ataque al corazón",
        "infarto",
    ),
    "fr": (
        "douleur à la poitrine",
        "douleur thoracique",
        "je ne peux pas respirer",
        "peux plus respirer",
        "suicide",
        "me suicider",
        "overdose",
        "crise cardiaque",
    ),
    "de": ("brustschmerzen", "bekomme keine luft", "selbstmord", "suizid", "überdosis", "herzinfarkt", "schlaganfall"),
    "pt": ("dor no peito", "não consigo respirar", "suicídio", "me matar", "overdose", "ataque cardíaco"),
    "it": ("dolore al petto", "non riesco a respirare", "suicidio", "infarto"),
    "ru": ("боль в груди", "не могу дышать", "самоубийство", "передозировка", "инфаркт"),
    "ar": ("ألم في الصدر", "لا أستطيع التنفس", "انتحار", "جرعة زائدة"),
    "zh": ("胸痛", "无法呼吸", "不能呼吸", "自杀", "自殺"),
    "hi": ("सीने में दर्द", "साँस नहीं", "सांस नहीं", "आत्महत्या"),
}
