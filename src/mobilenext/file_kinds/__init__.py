"""What a file or a folder is, by its content, and which option takes it; for a sentence where it is not expected.

Only the first bytes, a ZIP's or tar's names and the names in a folder are looked at; nothing is decoded or executed.
"""

from mobilenext.file_kinds.archives import kind_of_zip
from mobilenext.file_kinds.find import kind_of, other_kind
from mobilenext.file_kinds.heads import HEAD, kind_of_head
from mobilenext.file_kinds.kinds import Kind

__all__ = ["HEAD", "Kind", "kind_of", "kind_of_head", "kind_of_zip", "other_kind"]
