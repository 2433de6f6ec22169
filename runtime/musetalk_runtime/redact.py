"""Text for others' eyes, without what would let them in."""

import re

RULES = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;]+"), r"\1 ***"),
    (
        re.compile(
            r"(?i)\b([\w-]*(?:token|secret|password|passphrase|streamid|authorization|cookie)[\"']?\s*[=:]\s*"
            r"[\"']?)(?!\*|bearer|basic)[^\s&\"',;]+"
        ),
        r"\1***",
    ),
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)(?:[^/\s\"'@]*@)?([^/\s\"'?@]*)[/?][^\s\"']*"), r"\1\2/***"),
    (re.compile(r"(/v1/sessions/)[\w-]+"), r"\1***"),
    (re.compile(r"(?<![\w-])[\w-]{40,}(?![\w-])"), "***"),  # a token, or a digest of one
)


def redact(text: str) -> str:
    """`text` without tokens, passwords, ids of sessions, and of every URL more than its host."""
    for pattern, replacement in RULES:
        text = pattern.sub(replacement, text)
    return text
