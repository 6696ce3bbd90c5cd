"""One file for each way in which annotation tools write what was drawn."""
