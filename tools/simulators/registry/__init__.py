"""The civil registry (سازمان ثبت احوال کشور), simulated: card status, challenges, assertions, verification by code."""
