"""One page to look around in a preset's results: index.html, whole in one file, opened from disk without a network.

    parts.py      reads what `collect` made, names what is wrong with it and goes on
    rows.py       one row a run of a track, its columns with their definitions
    documents.py  what was asked and answered, by column, so that thousands of documents a run stay small
    embed.py      text that is safe inside a page: compressed data, libraries, the content security policy
    page.py       puts the page together
    page.html, page.css, scripts/*.js   the page itself

What models wrote is hostile text. It reaches the page as compressed bytes alone and is shown as text alone: scripts/text.js
makes every element, and no script that is not named by its hash may run.
"""
