"""ESC/POS status: what a receipt printer says of itself. Printing is python-escpos' business."""
