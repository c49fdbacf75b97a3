# SPDX-License-Identifier: MIT
# What Doxygen reads of a page: a link out of docs/ is plain text, as nothing is there, and the name of a page is a link.
s|\[\([^]]*\)\](\.\./[^)]*)|\1|g
s|\(^\|[ (]\)\(docs/[a-z_/]*\.md\)|\1[\2](\2)|g
