/**
 * What a machine learns from its guest's boot, from the attach to the quiet after it.
 *
 * The disk tells each first touch of a block. They are recorded, and when the boot is over the recording is kept as this peer's boot
 * profile of the image. One for each opened disk: a guest that restarts on an open disk does not touch anything for the first time.
 */
import { BootRecorder } from '../disk/boot-recorder.ts'
import type { TouchSink } from '../disk/first-touches.ts'
import type { Clock, Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import type { BootProfile } from '../image/boot-profile.ts'
import { type LocalImage, ZERO } from '../store/images.ts'

export interface ProfileKeeper {
  recorded(image: string, profile: BootProfile, options: { isFresh: boolean }): Promise<void>
  hasRecording(image: string): boolean
}

interface Components {
  profiles: ProfileKeeper
  clock: Pick<Clock, 'monotonicMs'>
  log: Log
}

type WatchedImage = Pick<LocalImage, 'id' | 'locate'>

export class BootWatch implements TouchSink {
  readonly #image: WatchedImage
  readonly #components: Components
  readonly #isFresh: boolean
  readonly #startMs: number
  #recorder: BootRecorder | undefined = new BootRecorder()

  /** @param isFresh - whether the machine has no layer with a past over the image */
  constructor(image: WatchedImage, components: Components, options: { isFresh: boolean }) {
    this.#image = image
    this.#components = components
    this.#isFresh = options.isFresh
    this.#startMs = components.clock.monotonicMs()
  }

  touched(block: number, sinceAttachMs: number): void {
    this.#recorder?.touched(block, sinceAttachMs)
  }

  /** To be called now and then: a boot that is over is kept. */
  async tend(): Promise<void> {
    const sinceAttachMs = this.#components.clock.monotonicMs() - this.#startMs
    if (this.#recorder?.isOver(sinceAttachMs)) await this.#keep(this.#recorder)
  }

  /** The disk is closed. A boot that was cut short is better than none. */
  async end(): Promise<void> {
    const recorder = this.#recorder
    this.#recorder = undefined
    if (recorder !== undefined && !this.#components.profiles.hasRecording(this.#image.id)) await this.#keep(recorder)
  }

  async #keep(recorder: BootRecorder): Promise<void> {
    this.#recorder = undefined
    const { profiles, log } = this.#components
    try {
      const profile = recorder.profile(block => this.#image.locate(block) !== ZERO)
      if (profile === undefined || profile.length === 0) return
      await profiles.recorded(this.#image.id, profile, { isFresh: this.#isFresh })
      log.info('a boot was recorded', { image: this.#image.id, blocks: profile.length, ms: profile.at(-1)?.atMs })
    } catch (cause) {
      // It is only advice.
      const { code, message } = asRowanError(cause)
      log.warn('the recording of a boot could not be kept', { image: this.#image.id, code, message })
    }
  }
}
