-- What partitions know of principals (src/index/access.rs and its like): who they are, which roles
-- they have, API keys, the policy of the partition, and what was revoked.

CREATE TABLE principal (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    principal_id uuid NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('user', 'service', 'certificate')),
    -- Who vouches for it, and who it is there: the two together name it for ever.
    issuer text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    name text,
    -- Those that the partition gave it; credentials may give others.
    roles text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Roughly: written once an hour at the most.
    last_seen_at timestamptz,
    suspended_at timestamptz,
    -- Credentials that were issued before are not taken any more.
    valid_from timestamptz,
    PRIMARY KEY (partition_id, principal_id),
    UNIQUE (partition_id, issuer, subject)
);

CREATE INDEX principal_by_creation ON principal (partition_id, created_at, principal_id);

-- Roles of the partition's own. Permissions are kept by name: one that a later server does not know
-- any more gives nothing.
CREATE TABLE role (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    name text COLLATE "C" NOT NULL,
    permissions text[] NOT NULL,
    description text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition_id, name)
);

CREATE TABLE api_key (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    key_id uuid NOT NULL,
    name text NOT NULL,
    -- How the key begins, to know it by.
    prefix text COLLATE "C" NOT NULL,
    -- SHA-256 of the secret, which is random: nothing slower is needed.
    hash bytea NOT NULL,
    old_hash bytea,
    old_hash_until timestamptz,
    roles text[] NOT NULL DEFAULT '{}',
    permissions text[] NOT NULL DEFAULT '{}',
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Who made it, in words.
    created_by text NOT NULL,
    last_used_at timestamptz,
    disabled_at timestamptz,
    PRIMARY KEY (partition_id, key_id)
);

CREATE INDEX api_key_by_creation ON api_key (partition_id, created_at, key_id);

CREATE TABLE partition_policy (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    state text COLLATE "C" NOT NULL CHECK (state IN ('active', 'read-only', 'suspended')),
    -- Networks; none: any.
    allowed_addresses text[] NOT NULL DEFAULT '{}',
    needs_mfa boolean NOT NULL DEFAULT false,
    -- In seconds.
    max_token_age bigint CHECK (max_token_age > 0),
    default_roles text[] NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    PRIMARY KEY (partition_id)
);

CREATE TABLE revocation (
    partition_id text COLLATE "C" NOT NULL DEFAULT 'microsoft.default',
    revocation_id uuid NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('session', 'token')),
    issuer text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    revoked_at timestamptz NOT NULL DEFAULT now(),
    -- When what was revoked has ended anyway.
    expires_at timestamptz,
    PRIMARY KEY (partition_id, revocation_id),
    UNIQUE (partition_id, kind, issuer, value)
);

CREATE INDEX revocation_by_time ON revocation (partition_id, revoked_at, revocation_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['principal', 'role', 'api_key', 'partition_policy', 'revocation']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY in_scope ON %I USING (partition_id = ANY '
            || '(string_to_array(current_setting(''collimator.scope'', true), '','')))', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON principal, role, api_key, partition_policy, revocation
    TO collimator_tenant;
