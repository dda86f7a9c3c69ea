"""The doctor: does this Contensis environment behave as exports assume? (docs/doctor.md)

Exports prove their results, so an assumption that does not hold makes them fail rather than lose entries. The
doctor shows which one it is, before anything fails. It only reads.
"""

from airflow_provider_contensis.doctor.examination import DoctorOptions, Examination, Finding, examine

__all__ = ["DoctorOptions", "Examination", "Finding", "examine"]
