"""Write index.html, one self-contained page to explore a preset's results, which opens from disk without a network.

    parts.py      reads the collected results; problems become notices
    columns.py    the columns of the tables, with their definitions
    rows.py       a row for each run of a track
    documents.py  questions and answers by column, so that thousands of documents per run stay small
    embed.py      data, libraries and the content security policy, safe inside a page
    page.py       renders the page
    page.html, page.css, scripts/*.js   the page itself

Text that models wrote is hostile. It enters the page only as compressed bytes and is shown only as text:
scripts/text.js makes every element, and the policy allows no script except those with a known hash.
"""
