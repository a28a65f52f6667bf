"""Public corpora by name. In reading order:

- `records`: what is known of a corpus: parts, archives, licence
- `catalog`: the known corpora
- `layouts`: reads the folders of each corpus as published
- `download`: downloads, verifies and unpacks one archive
- `collect`: finds corpora in a folder, downloads what is missing and lists their files
"""
