# SPDX-License-Identifier: MIT
# What Doxygen reads of a header: the comment that opens the file is about the file, one behind a member about the
# member, and the name of a page is a link to it. No line moves.
1s|^// SPDX.*|/// @file|
2,/^#pragma once/s|^//|///|
s|^\(  *[^/ ].*[;,]\)  *// |\1  ///< |
/\/\/\//s|\(docs/[a-z_/]*\.md\)|[\1](\1)|
