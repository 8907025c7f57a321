//! Why the authorization rules refuse an event: one variant per numbered rule. LM #int-auth-rules.

/// One table for variant, rule number and sentence.
macro_rules! rejections {
    ($($variant:ident $rule:literal $text:literal)*) => {
        /// The rule by which an event was rejected. A letter after the number marks a rule we add where the draft has a gap.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, thiserror::Error)]
        pub enum AuthRejection {
            $(
                #[doc = concat!("Rule ", $rule, ": ", $text, ".")]
                #[error($text)]
                $variant,
            )*
        }

        impl AuthRejection {
            /// Every rejection there is, in the order of the rules.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The number of the rule in LM #int-auth-rules, such as `5.2.3`.
            pub const fn rule(self) -> &'static str {
                match self {
                    $(Self::$variant => $rule,)*
                }
            }
        }
    };
}

rejections! {
    NotForCurrentHub "2a" "the event was made for a hub that is not this room's hub"
    CreateWithPrevEvents "3.1" "a create event must have no previous events"
    CreateInForeignDomain "3.2" "a create event's sender must belong to the server named in the room ID"
    CreateForAnotherVersion "3.3" "the create event names another room version"
    CreateWithAuthEvents "3a" "a create event must have no auth events"
    CreateWithStateKey "3b" "a create event's state key must be empty"
    SecondCreate "3c" "the room has been created already"
    DuplicateAuthEvent "4.1" "two auth events have the same type and state key"
    UnexpectedAuthEvent "4.2" "an auth event is unknown or not one this event should name"
    NoCreateEvent "4.3" "there is no create event to rely on"
    MemberWithoutTarget "5.1" "a member event needs a state key"
    MemberWithoutMembership "5.1" "a member event needs a membership"
    MemberTargetNotUser "5.1a" "a member event's state key must be a user ID"
    JoinForSomeoneElse "5.2.2" "users can only join by themselves"
    JoinerBanned "5.2.3" "the sender is banned from the room"
    JoinNotAllowed "5.2.6" "the room's join rule does not let the sender join"
    InviterNotJoined "5.3.1" "only joined users can invite"
    InviteeJoinedOrBanned "5.3.2" "the invited user is joined or banned"
    InviteLevelTooLow "5.3.4" "the sender's power level is too low to invite"
    LeaveWithoutPresence "5.4.1" "the sender is not in the room, invited or knocking"
    KickerNotJoined "5.4.2" "only joined users can remove others"
    UnbanLevelTooLow "5.4.3" "the sender's power level is too low to unban"
    KickNotAllowed "5.4.5" "the sender's power level is too low to remove this user"
    BannerNotJoined "5.5.1" "only joined users can ban"
    BanNotAllowed "5.5.3" "the sender's power level is too low to ban this user"
    KnockNotAllowed "5.6.1" "the room's join rule does not allow knocking"
    KnockForSomeoneElse "5.6.2" "users can only knock by themselves"
    KnockerBannedOrJoined "5.6.4" "the sender is banned or joined already"
    UnknownMembership "5.7" "the membership is not one the room version knows"
    SenderNotJoined "6" "the sender is not joined"
    LevelTooLow "7" "the sender's power level is too low for this event type"
    StateKeyOfAnotherUser "8" "a state key that is a user ID must be the sender's"
    PowerLevelNotInteger "9.1" "power levels must be integers"
    EventLevelsMalformed "9.2" "`events` must be an object of integers"
    UserLevelsMalformed "9.3" "`users` must be an object of integers with user IDs as keys"
    PowerLevelOutOfReach "9.5.1" "a level above the sender's own cannot be changed"
    PowerLevelRaisedAboveOwn "9.5.2" "a level cannot be set above the sender's own"
    EventLevelOutOfReach "9.6.1" "an event type's level above the sender's own cannot be changed"
    EventLevelRaisedAboveOwn "9.7.1" "an event type's level cannot be set above the sender's own"
    UserLevelOutOfReach "9.8.1" "this user's level is out of the sender's reach"
    UserLevelRaisedAboveOwn "9.9.1" "a user's level cannot be set above the sender's own"
}
