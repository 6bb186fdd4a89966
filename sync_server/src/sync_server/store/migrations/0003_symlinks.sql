-- A file may be a symbolic link: its content is the text of the link.

ALTER TABLE nodes ADD COLUMN symlink INTEGER NOT NULL DEFAULT 0;
ALTER TABLE versions ADD COLUMN symlink INTEGER NOT NULL DEFAULT 0;
