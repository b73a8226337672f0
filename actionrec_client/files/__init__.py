"""What commands read and write: lists of videos, journals of answers, tables, subtitles, pictures."""
