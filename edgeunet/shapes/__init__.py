"""Masks as shapes: run lengths, regions, polygons with holes, and files of COCO."""
