import type { Codec, DecodeOptions } from 'protons-runtime';
import type { Uint8ArrayList } from 'uint8arraylist';
export interface Delegation {
    publisher: string;
    releaseKey: string;
    sequence: number;
    issuedMs: number;
    expiresMs: number;
}
export declare namespace Delegation {
    const codec: () => Codec<Delegation>;
    interface DelegationPublisherFieldEvent {
        field: '$.publisher';
        value: string;
    }
    interface DelegationReleaseKeyFieldEvent {
        field: '$.releaseKey';
        value: string;
    }
    interface DelegationSequenceFieldEvent {
        field: '$.sequence';
        value: number;
    }
    interface DelegationIssuedMsFieldEvent {
        field: '$.issuedMs';
        value: number;
    }
    interface DelegationExpiresMsFieldEvent {
        field: '$.expiresMs';
        value: number;
    }
    function encode(obj: Partial<Delegation>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Delegation>): Delegation;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Delegation>): Generator<DelegationPublisherFieldEvent | DelegationReleaseKeyFieldEvent | DelegationSequenceFieldEvent | DelegationIssuedMsFieldEvent | DelegationExpiresMsFieldEvent>;
}
export interface Label {
    key: string;
    value: string;
}
export declare namespace Label {
    const codec: () => Codec<Label>;
    interface LabelKeyFieldEvent {
        field: '$.key';
        value: string;
    }
    interface LabelValueFieldEvent {
        field: '$.value';
        value: string;
    }
    function encode(obj: Partial<Label>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Label>): Label;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Label>): Generator<LabelKeyFieldEvent | LabelValueFieldEvent>;
}
export interface Release {
    version: string;
    image: Uint8Array<ArrayBuffer>;
    sizeBytes: number;
    zeroBlocks: number;
    parent?: string;
    labels: Label[];
    publishedMs: number;
    profile?: Uint8Array<ArrayBuffer>;
    webSeeds: string[];
}
export declare namespace Release {
    const codec: () => Codec<Release>;
    interface ReleaseVersionFieldEvent {
        field: '$.version';
        value: string;
    }
    interface ReleaseImageFieldEvent {
        field: '$.image';
        value: Uint8Array<ArrayBuffer>;
    }
    interface ReleaseSizeBytesFieldEvent {
        field: '$.sizeBytes';
        value: number;
    }
    interface ReleaseZeroBlocksFieldEvent {
        field: '$.zeroBlocks';
        value: number;
    }
    interface ReleaseParentFieldEvent {
        field: '$.parent';
        value: string;
    }
    interface ReleaseLabelsKeyFieldEvent {
        field: '$.labels[].key';
        value: string;
        index: number;
    }
    interface ReleaseLabelsValueFieldEvent {
        field: '$.labels[].value';
        value: string;
        index: number;
    }
    interface ReleasePublishedMsFieldEvent {
        field: '$.publishedMs';
        value: number;
    }
    interface ReleaseProfileFieldEvent {
        field: '$.profile';
        value: Uint8Array<ArrayBuffer>;
    }
    interface ReleaseWebSeedsFieldEvent {
        field: '$.webSeeds[]';
        index: number;
        value: string;
    }
    function encode(obj: Partial<Release>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Release>): Release;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Release>): Generator<ReleaseVersionFieldEvent | ReleaseImageFieldEvent | ReleaseSizeBytesFieldEvent | ReleaseZeroBlocksFieldEvent | ReleaseParentFieldEvent | ReleaseLabelsKeyFieldEvent | ReleaseLabelsValueFieldEvent | ReleasePublishedMsFieldEvent | ReleaseProfileFieldEvent | ReleaseWebSeedsFieldEvent>;
}
export interface Channel {
    name: string;
    version: string;
    rolloutPercent: number;
    previous?: string;
}
export declare namespace Channel {
    const codec: () => Codec<Channel>;
    interface ChannelNameFieldEvent {
        field: '$.name';
        value: string;
    }
    interface ChannelVersionFieldEvent {
        field: '$.version';
        value: string;
    }
    interface ChannelRolloutPercentFieldEvent {
        field: '$.rolloutPercent';
        value: number;
    }
    interface ChannelPreviousFieldEvent {
        field: '$.previous';
        value: string;
    }
    function encode(obj: Partial<Channel>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Channel>): Channel;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Channel>): Generator<ChannelNameFieldEvent | ChannelVersionFieldEvent | ChannelRolloutPercentFieldEvent | ChannelPreviousFieldEvent>;
}
export interface Latest {
    appliance: string;
    sequence: number;
    issuedMs: number;
    expiresMs: number;
    channels: Channel[];
    releases: Release[];
    delegation: Uint8Array<ArrayBuffer>;
}
export declare namespace Latest {
    const codec: () => Codec<Latest>;
    interface LatestApplianceFieldEvent {
        field: '$.appliance';
        value: string;
    }
    interface LatestSequenceFieldEvent {
        field: '$.sequence';
        value: number;
    }
    interface LatestIssuedMsFieldEvent {
        field: '$.issuedMs';
        value: number;
    }
    interface LatestExpiresMsFieldEvent {
        field: '$.expiresMs';
        value: number;
    }
    interface LatestChannelsNameFieldEvent {
        field: '$.channels[].name';
        value: string;
        index: number;
    }
    interface LatestChannelsVersionFieldEvent {
        field: '$.channels[].version';
        value: string;
        index: number;
    }
    interface LatestChannelsRolloutPercentFieldEvent {
        field: '$.channels[].rolloutPercent';
        value: number;
        index: number;
    }
    interface LatestChannelsPreviousFieldEvent {
        field: '$.channels[].previous';
        value: string;
        index: number;
    }
    interface LatestReleasesVersionFieldEvent {
        field: '$.releases[].version';
        value: string;
        index: number;
    }
    interface LatestReleasesImageFieldEvent {
        field: '$.releases[].image';
        value: Uint8Array<ArrayBuffer>;
        index: number;
    }
    interface LatestReleasesSizeBytesFieldEvent {
        field: '$.releases[].sizeBytes';
        value: number;
        index: number;
    }
    interface LatestReleasesZeroBlocksFieldEvent {
        field: '$.releases[].zeroBlocks';
        value: number;
        index: number;
    }
    interface LatestReleasesParentFieldEvent {
        field: '$.releases[].parent';
        value: string;
        index: number;
    }
    interface LatestReleasesLabelsKeyFieldEvent {
        field: '$.releases[].labels[].key';
        value: string;
        index: number;
    }
    interface LatestReleasesLabelsValueFieldEvent {
        field: '$.releases[].labels[].value';
        value: string;
        index: number;
    }
    interface LatestReleasesPublishedMsFieldEvent {
        field: '$.releases[].publishedMs';
        value: number;
        index: number;
    }
    interface LatestReleasesProfileFieldEvent {
        field: '$.releases[].profile';
        value: Uint8Array<ArrayBuffer>;
        index: number;
    }
    interface LatestReleasesWebSeedsFieldEvent {
        field: '$.releases[].webSeeds[]';
        index: number;
        value: string;
    }
    interface LatestDelegationFieldEvent {
        field: '$.delegation';
        value: Uint8Array<ArrayBuffer>;
    }
    function encode(obj: Partial<Latest>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Latest>): Latest;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Latest>): Generator<LatestApplianceFieldEvent | LatestSequenceFieldEvent | LatestIssuedMsFieldEvent | LatestExpiresMsFieldEvent | LatestChannelsNameFieldEvent | LatestChannelsVersionFieldEvent | LatestChannelsRolloutPercentFieldEvent | LatestChannelsPreviousFieldEvent | LatestReleasesVersionFieldEvent | LatestReleasesImageFieldEvent | LatestReleasesSizeBytesFieldEvent | LatestReleasesZeroBlocksFieldEvent | LatestReleasesParentFieldEvent | LatestReleasesLabelsKeyFieldEvent | LatestReleasesLabelsValueFieldEvent | LatestReleasesPublishedMsFieldEvent | LatestReleasesProfileFieldEvent | LatestReleasesWebSeedsFieldEvent | LatestDelegationFieldEvent>;
}
