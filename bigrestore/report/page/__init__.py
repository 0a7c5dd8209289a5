"""The HTML page of a report: one file, complete, without any request to a network.

A report is opened years later, from a copied disk, on a phone in the microscope room or printed. So pictures, figures,
styles and the script are inside the file, and at most 32 MB however large the volume. A content security policy in the
page forbids every request. `templates` has its words and its looks, filled in by Jinja2, which escapes every name;
`words` finds what the verdict says, `figures` draws, `pictures` packs tiles and sections, `build` puts it together.
"""
