"""The workbench: races, comparisons, analyses, reports and pictures of games."""
