"""The disk between scrape and push: frames in segments, one lane a folder."""
