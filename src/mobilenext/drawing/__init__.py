"""Tables, charts and pictures as plain data, which tasks make and the report renders."""
