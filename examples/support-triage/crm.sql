-- What stands for the CRM: one table of tickets.
CREATE TABLE tickets (
    id TEXT NOT NULL,
    message TEXT NOT NULL,
    intent TEXT NOT NULL,
    score REAL NOT NULL,
    queue TEXT NOT NULL,
    priority TEXT NOT NULL,
    sla_hours INTEGER NOT NULL
);
