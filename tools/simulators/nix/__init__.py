"""The national exchange (NIX, مرکز ملی تبادل اطلاعات), simulated: decides who may ask, forwards, reads no answer."""
