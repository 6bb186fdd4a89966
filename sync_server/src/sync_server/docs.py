"""The description as a page: plain HTML with one style sheet inside, no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --mark: #06c; }
@media (prefers-color-scheme: dark) { :root { --mark: #6bf; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; overflow-wrap: anywhere; }
code, pre { font: 14px/1.45 ui-monospace, monospace; background: var(--soft); border-radius: 4px; padding: 0 .25em; }
pre { padding: .6rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; border-top: 1px solid var(--line); padding: .25rem .5rem .25rem 0; }
.method { display: inline-block; min-width: 4.5em; font-weight: 600; color: var(--mark); }
.soft { opacity: .75; }
a { color: var(--mark); }
"""


def render(document: dict[str, Any]) -> tuple[bytes, str]:
    """The page, and the Content-Security-Policy that lets it show itself and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    info = document["info"]
    body = [
        f"<h1>{escape(info['title'])} <small class=soft>{escape(info['version'])}</small></h1>",
        f"<p>{_text(info['description'])}</p>",
        '<p>For programs: <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p>',
    ]
    for tag in document["tags"]:
        body.append(f'<h2 id="{escape(tag["name"])}">{escape(tag["description"])}</h2>')
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    body.append(_operation(path, method, operation))
    body.append('<h2 id="types">Types</h2>')
    for name, schema in sorted(document["components"]["schemas"].items()):
        body.append(
            f'<details id="{escape(name)}"><summary><code>{escape(name)}</code> '
            f"{_text(_first_line(schema.get('description', '')))}</summary>"
            f"<pre>{_linked(json.dumps(schema, indent=1, ensure_ascii=False))}</pre></details>"
        )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>"
    )
    return page.encode(), policy


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [
        f'<details id="{escape(operation["operationId"])}"><summary><span class=method>{method.upper()}</span> '
        f"<code>{escape(path)}</code> {escape(operation['summary'])}</summary>"
    ]
    parts += [f"<p>{_text(paragraph)}</p>" for paragraph in operation.get("description", "").split("\n\n") if paragraph]
    if operation.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}"
            f"{', required' if parameter['required'] else ''}"
            f"<td>{_text(parameter.get('description') or parameter['schema'].get('description', ''))}"
            f" <code>{escape(_short(parameter['schema']))}</code></tr>"
            for parameter in operation["parameters"]
        )
        parts.append(f"<table><tr><th>Parameter<th>In<th></tr>{rows}</table>")
    if body := operation.get("requestBody"):
        parts.append(f"<p>Body: {_kinds(body['content'])}</p>")
    rows = "".join(
        f"<tr><td>{status}<td>{_text(answer['description'])}<td>{_kinds(answer.get('content', {}))}</tr>"
        for status, answer in operation["responses"].items()
    )
    parts.append(f"<table><tr><th>Answer<th><th></tr>{rows}</table></details>")
    return "".join(parts)


def _kinds(content: dict[str, Any]) -> str:
    return ", ".join(
        f"<code>{escape(media)}</code> {_linked(_short(item.get('schema', {})))}".strip()
        for media, item in content.items()
    )


def _short(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"])
    if "anyOf" in schema:
        return " | ".join(_short(option) for option in schema["anyOf"])
    facts = {
        key: value
        for key, value in schema.items()
        if key not in ("description", "title", "type", "examples", "default")
    }
    text = str(schema.get("type", ""))
    if "default" in schema:
        text += f" = {json.dumps(schema['default'])}"
    return text + (f" {json.dumps(facts)}" if facts else "")


def _linked(text: str) -> str:
    return re.sub(r"#/components/schemas/(\w+)", r'<a href="#\1">\1</a>', escape(text, quote=False))


def _text(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def _first_line(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())
