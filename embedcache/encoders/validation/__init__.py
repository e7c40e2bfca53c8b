"""Numbers that an encoder's authors published image by image, a file a reference."""
