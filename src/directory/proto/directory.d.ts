import type { Codec, DecodeOptions } from 'protons-runtime';
import type { Uint8ArrayList } from 'uint8arraylist';
export interface ReplicaPayload {
    image: Uint8Array<ArrayBuffer>;
    peer: string;
    addresses: string[];
    complete: boolean;
    sequence: number;
    expiresMs: number;
}
export declare namespace ReplicaPayload {
    const codec: () => Codec<ReplicaPayload>;
    interface ReplicaPayloadImageFieldEvent {
        field: '$.image';
        value: Uint8Array<ArrayBuffer>;
    }
    interface ReplicaPayloadPeerFieldEvent {
        field: '$.peer';
        value: string;
    }
    interface ReplicaPayloadAddressesFieldEvent {
        field: '$.addresses[]';
        index: number;
        value: string;
    }
    interface ReplicaPayloadCompleteFieldEvent {
        field: '$.complete';
        value: boolean;
    }
    interface ReplicaPayloadSequenceFieldEvent {
        field: '$.sequence';
        value: number;
    }
    interface ReplicaPayloadExpiresMsFieldEvent {
        field: '$.expiresMs';
        value: number;
    }
    function encode(obj: Partial<ReplicaPayload>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<ReplicaPayload>): ReplicaPayload;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<ReplicaPayload>): Generator<ReplicaPayloadImageFieldEvent | ReplicaPayloadPeerFieldEvent | ReplicaPayloadAddressesFieldEvent | ReplicaPayloadCompleteFieldEvent | ReplicaPayloadSequenceFieldEvent | ReplicaPayloadExpiresMsFieldEvent>;
}
export interface LeasePayload {
    release: string;
    sequence: number;
    issuedMs: number;
    runningUntilMs: number;
    keepUntilMs: number;
    givenBack: boolean;
}
export declare namespace LeasePayload {
    const codec: () => Codec<LeasePayload>;
    interface LeasePayloadReleaseFieldEvent {
        field: '$.release';
        value: string;
    }
    interface LeasePayloadSequenceFieldEvent {
        field: '$.sequence';
        value: number;
    }
    interface LeasePayloadIssuedMsFieldEvent {
        field: '$.issuedMs';
        value: number;
    }
    interface LeasePayloadRunningUntilMsFieldEvent {
        field: '$.runningUntilMs';
        value: number;
    }
    interface LeasePayloadKeepUntilMsFieldEvent {
        field: '$.keepUntilMs';
        value: number;
    }
    interface LeasePayloadGivenBackFieldEvent {
        field: '$.givenBack';
        value: boolean;
    }
    function encode(obj: Partial<LeasePayload>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<LeasePayload>): LeasePayload;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<LeasePayload>): Generator<LeasePayloadReleaseFieldEvent | LeasePayloadSequenceFieldEvent | LeasePayloadIssuedMsFieldEvent | LeasePayloadRunningUntilMsFieldEvent | LeasePayloadKeepUntilMsFieldEvent | LeasePayloadGivenBackFieldEvent>;
}
export interface DirectoryRequest {
    puts: PutRecord[];
    latest?: LatestQuery;
    replicas?: ReplicasQuery;
    sharers?: SharersQuery;
}
export declare namespace DirectoryRequest {
    const codec: () => Codec<DirectoryRequest>;
    interface DirectoryRequestPutsTableFieldEvent {
        field: '$.puts[].table';
        value: number;
        index: number;
    }
    interface DirectoryRequestPutsRecordFieldEvent {
        field: '$.puts[].record';
        value: Uint8Array<ArrayBuffer>;
        index: number;
    }
    interface DirectoryRequestLatestApplianceFieldEvent {
        field: '$.latest.appliance';
        value: string;
    }
    interface DirectoryRequestLatestKnownDigestFieldEvent {
        field: '$.latest.knownDigest';
        value: Uint8Array<ArrayBuffer>;
    }
    interface DirectoryRequestLatestSecondFieldEvent {
        field: '$.latest.second';
        value: boolean;
    }
    interface DirectoryRequestReplicasImageFieldEvent {
        field: '$.replicas.image';
        value: Uint8Array<ArrayBuffer>;
    }
    interface DirectoryRequestSharersReleaseFieldEvent {
        field: '$.sharers.release';
        value: string;
    }
    interface DirectoryRequestSharersHashesFieldEvent {
        field: '$.sharers.hashes';
        value: boolean;
    }
    function encode(obj: Partial<DirectoryRequest>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<DirectoryRequest>): DirectoryRequest;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<DirectoryRequest>): Generator<DirectoryRequestPutsTableFieldEvent | DirectoryRequestPutsRecordFieldEvent | DirectoryRequestLatestApplianceFieldEvent | DirectoryRequestLatestKnownDigestFieldEvent | DirectoryRequestLatestSecondFieldEvent | DirectoryRequestReplicasImageFieldEvent | DirectoryRequestSharersReleaseFieldEvent | DirectoryRequestSharersHashesFieldEvent>;
}
export interface PutRecord {
    table: number;
    record: Uint8Array<ArrayBuffer>;
}
export declare namespace PutRecord {
    const codec: () => Codec<PutRecord>;
    interface PutRecordTableFieldEvent {
        field: '$.table';
        value: number;
    }
    interface PutRecordRecordFieldEvent {
        field: '$.record';
        value: Uint8Array<ArrayBuffer>;
    }
    function encode(obj: Partial<PutRecord>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<PutRecord>): PutRecord;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<PutRecord>): Generator<PutRecordTableFieldEvent | PutRecordRecordFieldEvent>;
}
export interface LatestQuery {
    appliance: string;
    knownDigest: Uint8Array<ArrayBuffer>;
    second: boolean;
}
export declare namespace LatestQuery {
    const codec: () => Codec<LatestQuery>;
    interface LatestQueryApplianceFieldEvent {
        field: '$.appliance';
        value: string;
    }
    interface LatestQueryKnownDigestFieldEvent {
        field: '$.knownDigest';
        value: Uint8Array<ArrayBuffer>;
    }
    interface LatestQuerySecondFieldEvent {
        field: '$.second';
        value: boolean;
    }
    function encode(obj: Partial<LatestQuery>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<LatestQuery>): LatestQuery;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<LatestQuery>): Generator<LatestQueryApplianceFieldEvent | LatestQueryKnownDigestFieldEvent | LatestQuerySecondFieldEvent>;
}
export interface ReplicasQuery {
    image: Uint8Array<ArrayBuffer>;
}
export declare namespace ReplicasQuery {
    const codec: () => Codec<ReplicasQuery>;
    interface ReplicasQueryImageFieldEvent {
        field: '$.image';
        value: Uint8Array<ArrayBuffer>;
    }
    function encode(obj: Partial<ReplicasQuery>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<ReplicasQuery>): ReplicasQuery;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<ReplicasQuery>): Generator<ReplicasQueryImageFieldEvent>;
}
export interface SharersQuery {
    release: string;
    hashes: boolean;
}
export declare namespace SharersQuery {
    const codec: () => Codec<SharersQuery>;
    interface SharersQueryReleaseFieldEvent {
        field: '$.release';
        value: string;
    }
    interface SharersQueryHashesFieldEvent {
        field: '$.hashes';
        value: boolean;
    }
    function encode(obj: Partial<SharersQuery>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<SharersQuery>): SharersQuery;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<SharersQuery>): Generator<SharersQueryReleaseFieldEvent | SharersQueryHashesFieldEvent>;
}
export interface DirectoryResponse {
    status: number;
    outcomes: string[];
    latest?: LatestAnswer;
    replicas?: ReplicasAnswer;
    sharers?: SharersAnswer;
}
export declare namespace DirectoryResponse {
    const codec: () => Codec<DirectoryResponse>;
    interface DirectoryResponseStatusFieldEvent {
        field: '$.status';
        value: number;
    }
    interface DirectoryResponseOutcomesFieldEvent {
        field: '$.outcomes[]';
        index: number;
        value: string;
    }
    interface DirectoryResponseLatestRecordFieldEvent {
        field: '$.latest.record';
        value: Uint8Array<ArrayBuffer>;
    }
    interface DirectoryResponseLatestSameFieldEvent {
        field: '$.latest.same';
        value: boolean;
    }
    interface DirectoryResponseLatestConflictFieldEvent {
        field: '$.latest.conflict';
        value: boolean;
    }
    interface DirectoryResponseLatestReplicasRecordFieldEvent {
        field: '$.latest.replicas[].record';
        value: Uint8Array<ArrayBuffer>;
        index: number;
    }
    interface DirectoryResponseLatestReplicasVerifiedFieldEvent {
        field: '$.latest.replicas[].verified';
        value: boolean;
        index: number;
    }
    interface DirectoryResponseLatestReplicasMetFieldEvent {
        field: '$.latest.replicas[].met';
        value: number;
        index: number;
    }
    interface DirectoryResponseLatestHeldSinceMsFieldEvent {
        field: '$.latest.heldSinceMs';
        value: number;
    }
    interface DirectoryResponseReplicasReplicasRecordFieldEvent {
        field: '$.replicas.replicas[].record';
        value: Uint8Array<ArrayBuffer>;
        index: number;
    }
    interface DirectoryResponseReplicasReplicasVerifiedFieldEvent {
        field: '$.replicas.replicas[].verified';
        value: boolean;
        index: number;
    }
    interface DirectoryResponseReplicasReplicasMetFieldEvent {
        field: '$.replicas.replicas[].met';
        value: number;
        index: number;
    }
    interface DirectoryResponseReplicasHeldSinceMsFieldEvent {
        field: '$.replicas.heldSinceMs';
        value: number;
    }
    interface DirectoryResponseSharersHashesFieldEvent {
        field: '$.sharers.hashes';
        value: Uint8Array<ArrayBuffer>;
    }
    interface DirectoryResponseSharersThresholdFieldEvent {
        field: '$.sharers.threshold';
        value: number;
    }
    interface DirectoryResponseSharersInUseForMsFieldEvent {
        field: '$.sharers.inUseForMs';
        value: number;
    }
    interface DirectoryResponseSharersTenureMsFieldEvent {
        field: '$.sharers.tenureMs';
        value: number;
    }
    interface DirectoryResponseSharersAllFieldEvent {
        field: '$.sharers.all';
        value: boolean;
    }
    function encode(obj: Partial<DirectoryResponse>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<DirectoryResponse>): DirectoryResponse;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<DirectoryResponse>): Generator<DirectoryResponseStatusFieldEvent | DirectoryResponseOutcomesFieldEvent | DirectoryResponseLatestRecordFieldEvent | DirectoryResponseLatestSameFieldEvent | DirectoryResponseLatestConflictFieldEvent | DirectoryResponseLatestReplicasRecordFieldEvent | DirectoryResponseLatestReplicasVerifiedFieldEvent | DirectoryResponseLatestReplicasMetFieldEvent | DirectoryResponseLatestHeldSinceMsFieldEvent | DirectoryResponseReplicasReplicasRecordFieldEvent | DirectoryResponseReplicasReplicasVerifiedFieldEvent | DirectoryResponseReplicasReplicasMetFieldEvent | DirectoryResponseReplicasHeldSinceMsFieldEvent | DirectoryResponseSharersHashesFieldEvent | DirectoryResponseSharersThresholdFieldEvent | DirectoryResponseSharersInUseForMsFieldEvent | DirectoryResponseSharersTenureMsFieldEvent | DirectoryResponseSharersAllFieldEvent>;
}
export interface LatestAnswer {
    record: Uint8Array<ArrayBuffer>;
    same: boolean;
    conflict: boolean;
    replicas: ReplicaFound[];
    heldSinceMs: number;
}
export declare namespace LatestAnswer {
    const codec: () => Codec<LatestAnswer>;
    interface LatestAnswerRecordFieldEvent {
        field: '$.record';
        value: Uint8Array<ArrayBuffer>;
    }
    interface LatestAnswerSameFieldEvent {
        field: '$.same';
        value: boolean;
    }
    interface LatestAnswerConflictFieldEvent {
        field: '$.conflict';
        value: boolean;
    }
    interface LatestAnswerReplicasRecordFieldEvent {
        field: '$.replicas[].record';
        value: Uint8Array<ArrayBuffer>;
        index: number;
    }
    interface LatestAnswerReplicasVerifiedFieldEvent {
        field: '$.replicas[].verified';
        value: boolean;
        index: number;
    }
    interface LatestAnswerReplicasMetFieldEvent {
        field: '$.replicas[].met';
        value: number;
        index: number;
    }
    interface LatestAnswerHeldSinceMsFieldEvent {
        field: '$.heldSinceMs';
        value: number;
    }
    function encode(obj: Partial<LatestAnswer>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<LatestAnswer>): LatestAnswer;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<LatestAnswer>): Generator<LatestAnswerRecordFieldEvent | LatestAnswerSameFieldEvent | LatestAnswerConflictFieldEvent | LatestAnswerReplicasRecordFieldEvent | LatestAnswerReplicasVerifiedFieldEvent | LatestAnswerReplicasMetFieldEvent | LatestAnswerHeldSinceMsFieldEvent>;
}
export interface ReplicasAnswer {
    replicas: ReplicaFound[];
    heldSinceMs: number;
}
export declare namespace ReplicasAnswer {
    const codec: () => Codec<ReplicasAnswer>;
    interface ReplicasAnswerReplicasRecordFieldEvent {
        field: '$.replicas[].record';
        value: Uint8Array<ArrayBuffer>;
        index: number;
    }
    interface ReplicasAnswerReplicasVerifiedFieldEvent {
        field: '$.replicas[].verified';
        value: boolean;
        index: number;
    }
    interface ReplicasAnswerReplicasMetFieldEvent {
        field: '$.replicas[].met';
        value: number;
        index: number;
    }
    interface ReplicasAnswerHeldSinceMsFieldEvent {
        field: '$.heldSinceMs';
        value: number;
    }
    function encode(obj: Partial<ReplicasAnswer>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<ReplicasAnswer>): ReplicasAnswer;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<ReplicasAnswer>): Generator<ReplicasAnswerReplicasRecordFieldEvent | ReplicasAnswerReplicasVerifiedFieldEvent | ReplicasAnswerReplicasMetFieldEvent | ReplicasAnswerHeldSinceMsFieldEvent>;
}
export interface SharersAnswer {
    hashes: Uint8Array<ArrayBuffer>;
    threshold: number;
    inUseForMs: number;
    tenureMs: number;
    all: boolean;
}
export declare namespace SharersAnswer {
    const codec: () => Codec<SharersAnswer>;
    interface SharersAnswerHashesFieldEvent {
        field: '$.hashes';
        value: Uint8Array<ArrayBuffer>;
    }
    interface SharersAnswerThresholdFieldEvent {
        field: '$.threshold';
        value: number;
    }
    interface SharersAnswerInUseForMsFieldEvent {
        field: '$.inUseForMs';
        value: number;
    }
    interface SharersAnswerTenureMsFieldEvent {
        field: '$.tenureMs';
        value: number;
    }
    interface SharersAnswerAllFieldEvent {
        field: '$.all';
        value: boolean;
    }
    function encode(obj: Partial<SharersAnswer>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<SharersAnswer>): SharersAnswer;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<SharersAnswer>): Generator<SharersAnswerHashesFieldEvent | SharersAnswerThresholdFieldEvent | SharersAnswerInUseForMsFieldEvent | SharersAnswerTenureMsFieldEvent | SharersAnswerAllFieldEvent>;
}
export interface ReplicaFound {
    record: Uint8Array<ArrayBuffer>;
    verified: boolean;
    met: number;
}
export declare namespace ReplicaFound {
    const codec: () => Codec<ReplicaFound>;
    interface ReplicaFoundRecordFieldEvent {
        field: '$.record';
        value: Uint8Array<ArrayBuffer>;
    }
    interface ReplicaFoundVerifiedFieldEvent {
        field: '$.verified';
        value: boolean;
    }
    interface ReplicaFoundMetFieldEvent {
        field: '$.met';
        value: number;
    }
    function encode(obj: Partial<ReplicaFound>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<ReplicaFound>): ReplicaFound;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<ReplicaFound>): Generator<ReplicaFoundRecordFieldEvent | ReplicaFoundVerifiedFieldEvent | ReplicaFoundMetFieldEvent>;
}
export interface HeldRecord {
    table: number;
    key: string;
    signer: string;
    sequence: number;
    expiresMs: number;
    digest: string;
    bytes: Uint8Array<ArrayBuffer>;
    heldSinceMs: number;
    delegationSequence: number;
    images: string[];
    conflicting: Uint8Array<ArrayBuffer>;
    complete: boolean;
    verified: boolean;
    met: number;
}
export declare namespace HeldRecord {
    const codec: () => Codec<HeldRecord>;
    interface HeldRecordTableFieldEvent {
        field: '$.table';
        value: number;
    }
    interface HeldRecordKeyFieldEvent {
        field: '$.key';
        value: string;
    }
    interface HeldRecordSignerFieldEvent {
        field: '$.signer';
        value: string;
    }
    interface HeldRecordSequenceFieldEvent {
        field: '$.sequence';
        value: number;
    }
    interface HeldRecordExpiresMsFieldEvent {
        field: '$.expiresMs';
        value: number;
    }
    interface HeldRecordDigestFieldEvent {
        field: '$.digest';
        value: string;
    }
    interface HeldRecordBytesFieldEvent {
        field: '$.bytes';
        value: Uint8Array<ArrayBuffer>;
    }
    interface HeldRecordHeldSinceMsFieldEvent {
        field: '$.heldSinceMs';
        value: number;
    }
    interface HeldRecordDelegationSequenceFieldEvent {
        field: '$.delegationSequence';
        value: number;
    }
    interface HeldRecordImagesFieldEvent {
        field: '$.images[]';
        index: number;
        value: string;
    }
    interface HeldRecordConflictingFieldEvent {
        field: '$.conflicting';
        value: Uint8Array<ArrayBuffer>;
    }
    interface HeldRecordCompleteFieldEvent {
        field: '$.complete';
        value: boolean;
    }
    interface HeldRecordVerifiedFieldEvent {
        field: '$.verified';
        value: boolean;
    }
    interface HeldRecordMetFieldEvent {
        field: '$.met';
        value: number;
    }
    function encode(obj: Partial<HeldRecord>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<HeldRecord>): HeldRecord;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<HeldRecord>): Generator<HeldRecordTableFieldEvent | HeldRecordKeyFieldEvent | HeldRecordSignerFieldEvent | HeldRecordSequenceFieldEvent | HeldRecordExpiresMsFieldEvent | HeldRecordDigestFieldEvent | HeldRecordBytesFieldEvent | HeldRecordHeldSinceMsFieldEvent | HeldRecordDelegationSequenceFieldEvent | HeldRecordImagesFieldEvent | HeldRecordConflictingFieldEvent | HeldRecordCompleteFieldEvent | HeldRecordVerifiedFieldEvent | HeldRecordMetFieldEvent>;
}
export interface StoredLease {
    hash: number;
    sequence: number;
    runningUntilMs: number;
    keepUntilMs: number;
    givenBack: boolean;
}
export declare namespace StoredLease {
    const codec: () => Codec<StoredLease>;
    interface StoredLeaseHashFieldEvent {
        field: '$.hash';
        value: number;
    }
    interface StoredLeaseSequenceFieldEvent {
        field: '$.sequence';
        value: number;
    }
    interface StoredLeaseRunningUntilMsFieldEvent {
        field: '$.runningUntilMs';
        value: number;
    }
    interface StoredLeaseKeepUntilMsFieldEvent {
        field: '$.keepUntilMs';
        value: number;
    }
    interface StoredLeaseGivenBackFieldEvent {
        field: '$.givenBack';
        value: boolean;
    }
    function encode(obj: Partial<StoredLease>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<StoredLease>): StoredLease;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<StoredLease>): Generator<StoredLeaseHashFieldEvent | StoredLeaseSequenceFieldEvent | StoredLeaseRunningUntilMsFieldEvent | StoredLeaseKeepUntilMsFieldEvent | StoredLeaseGivenBackFieldEvent>;
}
export interface RememberedAppliance {
    sequence: number;
    digest: string;
    bytes: Uint8Array<ArrayBuffer>;
    conflict: boolean;
    seenMs: number;
    delegationSequence: number;
}
export declare namespace RememberedAppliance {
    const codec: () => Codec<RememberedAppliance>;
    interface RememberedApplianceSequenceFieldEvent {
        field: '$.sequence';
        value: number;
    }
    interface RememberedApplianceDigestFieldEvent {
        field: '$.digest';
        value: string;
    }
    interface RememberedApplianceBytesFieldEvent {
        field: '$.bytes';
        value: Uint8Array<ArrayBuffer>;
    }
    interface RememberedApplianceConflictFieldEvent {
        field: '$.conflict';
        value: boolean;
    }
    interface RememberedApplianceSeenMsFieldEvent {
        field: '$.seenMs';
        value: number;
    }
    interface RememberedApplianceDelegationSequenceFieldEvent {
        field: '$.delegationSequence';
        value: number;
    }
    function encode(obj: Partial<RememberedAppliance>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<RememberedAppliance>): RememberedAppliance;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<RememberedAppliance>): Generator<RememberedApplianceSequenceFieldEvent | RememberedApplianceDigestFieldEvent | RememberedApplianceBytesFieldEvent | RememberedApplianceConflictFieldEvent | RememberedApplianceSeenMsFieldEvent | RememberedApplianceDelegationSequenceFieldEvent>;
}
