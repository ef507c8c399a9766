"""The broker door: what the fleet server knows of any MQTT v5 broker. Only this package imports an MQTT library.

Only the portable subset is used (docs/adr/0006), so that a clustered broker can take Mosquitto's place: QoS 0 and 1,
nothing retained, no shared subscription, no logic on a reason code except *stored*, *nobody* and *retry*.
"""
