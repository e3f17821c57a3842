"""Fakes that ship to users: loopback metadata services, to test a run's interruption path without a cloud."""

from harness.fakes.metadata import FakeAwsMetadata, FakeAzureMetadata, FakeGcpMetadata, FakeMetadata, Misbehaviour

__all__ = ["FakeAwsMetadata", "FakeAzureMetadata", "FakeGcpMetadata", "FakeMetadata", "Misbehaviour"]
