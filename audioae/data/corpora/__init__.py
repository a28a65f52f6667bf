"""Public corpora by name. In reading order:

- `records`: what is known of a corpus: parts, archives, licence
- `catalog`: the known corpora
- `layouts`: reads the folders of each corpus as published
- `download`: downloads and verifies one archive
- `collect`: finds corpora in a folder, downloads and unpacks what is missing, lists their files
"""
