"""Making nets smaller: by depth or by channels, and fine-tuning them afterwards."""
