"""The command `raymill`: one file per noun, loaded only when its command runs."""
