"""Where a student can start from: folders of open_clip, timm and transformers."""
